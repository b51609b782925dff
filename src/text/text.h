/* text: what lies between bytes and ids.  Tokenizer, chat templates, the parser that splits thinking from answer. */
#ifndef AHA_TEXT_H
#define AHA_TEXT_H

#include "../base/base.h"

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
int  tokenizer_decode(const Tokenizer *t, const int32_t *id, size_t n, Buf *out);

/* Incremental decoding: gives only whole UTF-8 characters; invalid bytes become U+FFFD at once. */
typedef struct Utf8Stream {
    uint8_t held[4];
    int     n_held;
} Utf8Stream;
void utf8_stream_push(Utf8Stream *s, const char *bytes, size_t n, Buf *out);
void utf8_stream_end(Utf8Stream *s, Buf *out); /* a held half character becomes U+FFFD */

/* ---- chat templates (chat.c) ---- */
typedef enum ChatTemplate {
    CHAT_R1_JAN,      /* <|Assistant|> ; the model opens <think> itself                    */
    CHAT_R1,          /* R1 since Feb 2025 and the six distills: <|Assistant|><think>\n   */
    CHAT_R1_0528,     /* R1-0528 and 0528-Qwen3-8B: <|Assistant|> after each user turn    */
    CHAT_COUNT
} ChatTemplate;
const char *chat_template_name(ChatTemplate t);
/* Recognises a model's own template by its features (re-uploads edit them); unknown: *known false and a default. */
ChatTemplate chat_template_detect(const char *jinja, size_t n, bool *known);

typedef enum ChatRole { ROLE_SYSTEM, ROLE_USER, ROLE_ASSISTANT } ChatRole;
typedef struct ChatMessage {
    ChatRole    role;
    const char *text;
    size_t      n;
} ChatMessage;
/* The ids of a conversation: one beginning-of-sentence token, control tokens by id, texts as plain text; the thinking of
 * earlier assistant turns (up to and including </think>) is left out.  With add_generation the prompt for the next
 * assistant turn is open at the end; *think_open says whether the template already opened <think>. */
int chat_render(const Tokenizer *t, ChatTemplate tpl, const ChatMessage *m, int n, bool add_generation, Ids *out,
                bool *think_open, aha_error *e);

/* ---- splitting a reply (reply.c) ---- token by token into thinking and answer; control tokens never leak */
typedef enum ReplyPart { REPLY_THINKING, REPLY_ANSWER } ReplyPart;
typedef struct Reply {
    const Tokenizer *tok;
    ReplyPart  part;
    bool       started; /* something of this part was given out (leading newlines of a part are dropped) */
    Utf8Stream utf8;
    int32_t    think, end_think, eos; /* ids or -1 */
    Buf        held;                  /* trailing whitespace not yet known to be inside the part */
} Reply;
void reply_init(Reply *r, const Tokenizer *t, bool think_open);
/* Feeds one id; *part says which part the text appended to out belongs to.  false: id is an end of the reply. */
bool reply_push(Reply *r, int32_t id, ReplyPart *part, Buf *out);
void reply_end(Reply *r, ReplyPart *part, Buf *out);
void reply_free(Reply *r);

#endif
