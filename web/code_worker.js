// Colours code beside the page, where patterns that never end can be ended: {text, language} -> {html}, null where there is nothing to colour.
import "./lib/highlight.min.js";

self.hljs.configure({ hideUpgradeWarningAcceptNoSupportOrSecurityUpdates: true }); // version 9 is what Debian has
self.onmessage = ({ data }) => {
  const { text, language } = data;
  self.postMessage({ html: self.hljs.getLanguage(language) ? self.hljs.highlight(language, text, true).value : null });
};
self.postMessage({ ready: true });
