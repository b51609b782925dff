/* text: what lies between bytes and ids.  Tokenizer, chat templates, the parser that splits thinking from answer. */
#ifndef AHA_TEXT_H
#define AHA_TEXT_H

#include "../format/format.h"

/* ---- tokenizer (tokenizer.c, bpe.c, pretok.c) ---- immutable after loading: any number of threads may use it ---- */
typedef struct Tokenizer Tokenizer;

/* Loads tokenizer.json text (byte-level BPE; the pre-tokeniser patterns of DeepSeek-V3/R1, Qwen2/3 and Llama-3 are known,
 * others are AHA_ERR_UNSUPPORTED and named).  what: the file's name, for messages. */
int  tokenizer_parse(Tokenizer **out, const char *json, size_t n, const char *what, aha_error *e);
int  tokenizer_read(Tokenizer **out, const char *path, aha_error *e);
void tokenizer_free(Tokenizer *t);
int  tokenizer_vocab(const Tokenizer *t);                     /* highest id + 1 */
int  tokenizer_id(const Tokenizer *t, const char *token);     /* id of an added ("special") token by its text, -1 absent */
/* Text to ids.  Bytes that spell an added token stay plain text unless TOK_SPECIAL (prompts that a template rendered use
 * tokenizer_id instead, so user text never becomes a control token).  Invalid UTF-8 is encoded byte by byte.
 * Appends to *ids (mem_realloc'ed, *n long, *cap reserved).  Linear in the length of the text. */
enum { TOK_SPECIAL = 1 };
typedef struct Ids {
    int32_t *id;
    size_t   n, cap;
} Ids;
int  ids_push(Ids *v, int32_t id, aha_error *e);
void ids_free(Ids *v);
int  tokenizer_encode(const Tokenizer *t, const char *text, size_t n, unsigned flags, Ids *out, aha_error *e);
/* The bytes of one id (added tokens: their text); *n 0 and "" for an id out of range.  Owned by t. */
const char *tokenizer_bytes(const Tokenizer *t, int32_t id, size_t *n);
bool tokenizer_is_added(const Tokenizer *t, int32_t id);
bool tokenizer_is_control(const Tokenizer *t, int32_t id);    /* an added token that is special or spelled <...>: never shown */
int  tokenizer_decode(const Tokenizer *t, const int32_t *id, size_t n, Buf *out);

/* ---- from GGUF's metadata (gguf_vocab.c) ---- */
typedef struct TextRef { /* a string that need not end with NUL */
    const char *s;
    uint64_t    n;
} TextRef;
/* The values of tokenizer.ggml.*, borrowed: whoever reads the file fills this in, unchecked.  NULL, 0 or -1: absent. */
typedef struct GgufVocab {
    TextRef        model, pre;
    const TextRef *token;   /* [n] */
    uint64_t       n;
    const int32_t *type;    /* [n_type] token_type: as many as tokens */
    uint64_t       n_type;
    const TextRef *merge;   /* [n_merge] "left right" */
    uint64_t       n_merge;
    int64_t        bos, eos, pad; /* bos_token_id, eos_token_id, padding_token_id */
    bool           add_bos;       /* add_bos_token: a template writes the token itself, so this adds none */
    TextRef        chat_template; /* for chat_template_detect */
} GgufVocab;
/* The same tokenizer as the family's tokenizer.json gives: model "gpt2" (byte-level BPE) with pre "deepseek-v3",
 * "deepseek-r1-qwen", "qwen2", "llama-bpe" or "deepseek-llm"; others are AHA_ERR_UNSUPPORTED and named.  Control and
 * user-defined tokens are its added tokens; unused ones have no text.  Everything is checked here: AHA_ERR_FORMAT, _LIMIT. */
int  tokenizer_from_gguf(Tokenizer **out, const GgufVocab *v, const char *what, aha_error *e);

/* The other way (gguf_words.c): tokenizer.ggml.* of t for a model of `rows` rows of its embedding; rows that no token has
 * become unused tokens.  AHA_ERR_UNSUPPORTED: GGUF has no name for the way it cuts text. */
int  tokenizer_to_gguf(const Tokenizer *t, int rows, GgufMeta *m, const char *what, aha_error *e);

/* As Hugging Face's files (hf_words.c), which its tokenizers and transformers read with the same ids: appended to o. */
typedef struct HfWords {
    int64_t bos, eos, pad; /* ids; -1: none */
    bool    add_bos;       /* a text begins with bos */
    int64_t length;        /* positions that the model was made for */
    TextRef chat_template; /* s NULL: none */
} HfWords;
int tokenizer_to_json(const Tokenizer *t, const HfWords *w, Buf *o, aha_error *e);
int tokenizer_config_to_json(const Tokenizer *t, const HfWords *w, Buf *o, aha_error *e);

/* ---- making one (build.c) ---- */
/* An ordinary tokenizer.json, as Hugging Face's tokenizers loads it and with the same ids there: byte-level BPE behind
 * DeepSeek-V3's pre-tokeniser.  Ids: R1's three special tokens (0, 1, 2), 256 bytes, the numbers 10..999, the words with the
 * intermediate tokens of their merges, then <think>, </think>, <|User|>, <|Assistant|> and R1's nine tool tokens.
 * Every word (" word" with its blank is one of its own) and every number 0..999 is one token where it stands as a piece of
 * its own; a word that the pre-tokeniser cuts is AHA_ERR_ARG naming it.  Deterministic.  mem_free(*json_out). */
int tokenizer_build_json(const char *const *words, int n_words, char **json_out, aha_error *e);
/* The tokenizer_config.json to go with it: CHAT_R1's template, one beginning-of-sentence token.  mem_free(*json_out). */
int tokenizer_build_config(char **json_out, aha_error *e);

/* Incremental decoding: gives only whole UTF-8 characters; invalid bytes become U+FFFD at once. */
typedef struct Utf8Stream {
    uint8_t held[4];
    int     n_held;
} Utf8Stream;
void utf8_stream_push(Utf8Stream *s, const char *bytes, size_t n, Buf *out);
void utf8_stream_end(Utf8Stream *s, Buf *out); /* a held half character becomes U+FFFD */

/* ---- chat templates (chat.c) ---- */
typedef enum ChatTemplate {
    CHAT_R1_JAN,     /* R1, R1-Zero of Jan 2025: <|Assistant|>; the model opens <think> itself; the last system text wins   */
    CHAT_R1,         /* R1 since Feb 2025: <|Assistant|><think>\n; system texts joined by an empty line, as in the next two */
    CHAT_R1_0528,    /* R1-0528 and 0528-Qwen3-8B: <|Assistant|> after each user turn                                      */
    CHAT_V3,         /* as CHAT_R1 without <think>\n                                                                       */
    CHAT_R1_DISTILL, /* the six distills: as CHAT_R1, but the last system text wins                                        */
    CHAT_COUNT
} ChatTemplate;
const char *chat_template_name(ChatTemplate t);
/* Recognises a model's own template by its features (re-uploads edit them); unknown: *known false and CHAT_R1. */
ChatTemplate chat_template_detect(const char *jinja, size_t n, bool *known);

typedef enum ChatRole { ROLE_SYSTEM, ROLE_USER, ROLE_ASSISTANT, ROLE_TOOL } ChatRole;
typedef struct ChatCall { /* of a function, as the assistant asked for it */
    const char *name;
    size_t      n_name;
    const char *args; /* JSON text, written as it is */
    size_t      n_args;
} ChatCall;
typedef struct ChatMessage {
    ChatRole        role;
    const char     *text; /* of a tool: its result.  NULL: none */
    size_t          n;
    const ChatCall *call; /* [n_call] of an assistant, after its text */
    int             n_call;
    bool            prefix; /* of the last message, an assistant's without calls: the reply goes on where text ends */
} ChatMessage;
typedef enum ChatThink {
    CHAT_THINK_TEMPLATE, /* as the template has it */
    CHAT_THINK_FORCED,   /* <think> and a newline are written for the model, so that it cannot leave its thinking out */
    CHAT_THINK_FREE,     /* nothing is: the model opens its thinking itself, or does not */
    CHAT_THINK_OFF       /* an empty thinking is: what follows is the answer */
} ChatThink;
typedef struct ChatOptions {
    bool        add_generation; /* open the next assistant turn */
    ChatThink   think;
    const char *tools; /* JSON list of the functions that may be called, described after the system text; NULL: none */
    size_t      n_tools;
} ChatOptions;
/* The ids of a conversation, appended to out: one beginning-of-sentence token, control tokens by id, texts as plain text;
 * the thinking of earlier assistant turns (up to and including the last </think>) is left out.  With add_generation the
 * prompt for the next assistant turn is open at the end; *think_open says whether the reply begins inside the thinking.
 * After tool results the reply just goes on, without <think>.  A last message with prefix is left open instead: its own
 * <think> and </think> become tokens and its thinking stays, for the model is to go on from it.
 * A tokenizer that lacks the tool markers (the distills') has them spelled, as its models were trained.  Lacking another
 * control token is AHA_ERR_UNSUPPORTED naming it.  tools that are no list of functions, a prefix in another place, calls
 * of another role: AHA_ERR_ARG or _FORMAT.  On an error out is as before.  docs/templates.md has every form. */
int chat_render_with(const Tokenizer *t, ChatTemplate tpl, const ChatMessage *m, int n, const ChatOptions *o, Ids *out,
                     bool *think_open, aha_error *e);
int chat_render(const Tokenizer *t, ChatTemplate tpl, const ChatMessage *m, int n, bool add_generation, Ids *out,
                bool *think_open, aha_error *e);
/* The description of tools that chat_render_with inserts, as text (chat_tools.c).  No R1 template renders tools itself.
 * tools: a JSON list of {"type": "function", "function": {"name", ...}}, or of the functions themselves.  A function's
 * JSON keeps its numbers and strings byte for byte; only white space is made even.  AHA_ERR_FORMAT names the entry. */
int chat_tools_text(const char *tools, size_t n, Buf *out, aha_error *e);

/* ---- splitting a reply (reply.c) ---- token by token into thinking, answer and tool calls; control tokens never leak ----
 * <think> and </think> are the tokens, wherever they come; a reply without them is all answer.  Text of either part has no
 * newlines before it and no white space after it; when a part resumes, an empty line comes between.
 * Tool calls are recognised in the answer only: by their markers' ids, or, where the tokenizer lacks these, by the markers'
 * text, however it is cut into tokens.  Nothing between their markers is text of the answer, nor are results of tools that
 * the model makes up. */
typedef enum ReplyPart { REPLY_THINKING, REPLY_ANSWER } ReplyPart;
typedef struct ReplyCall { /* valid UTF-8, NUL-terminated, owned by the reply */
    char  *name, *args; /* args: the text of the arguments, "" perhaps */
    size_t n_args;
    bool   complete; /* false: the reply ended before the call did */
    bool   valid;    /* complete, with a name, and args are a JSON object */
} ReplyCall;
typedef enum ReplyPlace { REPLY_IN_TEXT, REPLY_IN_CALLS, REPLY_IN_CALL, REPLY_IN_ARGS, REPLY_IN_OUTPUTS } ReplyPlace;
typedef struct Reply {
    const Tokenizer *tok;
    ReplyPart  part;
    ReplyPlace place;    /* REPLY_IN_TEXT while thinking */
    bool       started;  /* something of this stretch of the part was seen (leading newlines are dropped) */
    bool       running;  /* something of it was given out */
    bool       given[2]; /* something of the part was given out, in this stretch or an earlier one */
    bool       spelled;  /* tool markers come as text */
    bool       no_memory;
    Utf8Stream utf8;
    int32_t    think, end_think, eos, user; /* ids or -1 */
    int32_t    marker[9]; /* ids of the tool markers */
    Buf        text;      /* scratch */
    Buf        held;      /* trailing white space not yet known to be inside the part */
    Buf        maybe;     /* text that may be the beginning of a marker */
    Buf        type, body; /* of the call being read: what stands before and after the separator */
    ReplyCall *call;      /* [n_call] read so far; the last may be unfinished once the reply ended */
    int        n_call, cap_call;
} Reply;
void reply_init(Reply *r, const Tokenizer *t, bool think_open);
/* Feeds one id; *part says which part the text appended to out (valid UTF-8) belongs to.  false: id is an end of the
 * reply: end of sentence, or the start of a user's turn.  Without memory out->failed is set. */
bool reply_push(Reply *r, int32_t id, ReplyPart *part, Buf *out);
void reply_end(Reply *r, ReplyPart *part, Buf *out); /* what is still held and can be given; an open call is taken as it is */
void reply_free(Reply *r);

/* ---- texts that end an answer (stop.c) ---- found in a stream of text, whatever the cut, byte for byte */
enum { STOPS_MAX = AHA_STOP_MAX, STOP_BYTES_MAX = AHA_STOP_BYTES_MAX };
typedef struct Stops Stops;
/* AHA_ERR_LIMIT: none or too many, or one too long; AHA_ERR_ARG: an empty one, or one that is not UTF-8; they are named. */
int  stops_new(Stops **out, const TextRef *s, int n, aha_error *e);
void stops_free(Stops *p);
/* Takes text; appends to out what can no longer be part of a match.  Which one has ended the text, or -1: the one whose match
 * ends first, the longest of several; out then ends where it begins, and nothing more is taken. */
int  stops_push(Stops *p, const char *s, size_t n, Buf *out);
int  stops_hit(const Stops *p);
void stops_end(Stops *p, Buf *out); /* what is held back; begins anew */

#endif
