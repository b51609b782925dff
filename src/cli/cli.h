/* cli: the program.  One file per subcommand (cmd_*.c); the only room that prints for people and exits.
 *
 * Results go to standard output, everything else to standard error.  Exit status: 0 done, 1 failed, 2 wrong usage; a
 * program that was interrupted dies by the signal, so that a script's loop ends too. */
#ifndef AHA_CLI_CLI_H
#define AHA_CLI_CLI_H

#include "../base/base.h"

enum { CLI_DONE = 0, CLI_FAILED = 1, CLI_USAGE = 2 };

/* ---- commands (main.c) ---- argv[0] is the command's name; returns the exit status */
typedef struct Command {
    const char *name, *summary;
    int (*run)(int argc, char **argv);
} Command;
int cmd_run(int argc, char **argv);
int cmd_chat(int argc, char **argv);
int cmd_serve(int argc, char **argv);
int cmd_learn(int argc, char **argv);
int cmd_eval(int argc, char **argv);
int cmd_eval_text(int argc, char **argv); /* argv[0]: perplexity or kl */
int cmd_score(int argc, char **argv);
int cmd_tokenize(int argc, char **argv);
int cmd_inspect(int argc, char **argv);
int cmd_plan(int argc, char **argv);
int cmd_pull(int argc, char **argv);
int cmd_convert(int argc, char **argv);
int cmd_imatrix(int argc, char **argv);
int cmd_bench(int argc, char **argv);
int cmd_doctor(int argc, char **argv);
int cmd_keys(int argc, char **argv);
int cmd_usage(int argc, char **argv);

/* ---- speaking (term.c) ---- any thread may */
void cli_begin(const char *command); /* whose name stands before messages; puts a log sink on standard error */
void cli_verbose(void);              /* the log's information too */
void say(const char *fmt, ...) PRINTF_LIKE(1, 2);         /* "aha run: ..." on standard error; a bar is moved out of the way */
void say_plain(const char *fmt, ...) PRINTF_LIKE(1, 2);   /* the same without the name */
int  fail(const aha_error *e);       /* says it; the exit status that goes with its code */
int  fail_usage(const char *fmt, ...) PRINTF_LIKE(1, 2);  /* says it and where the help is; CLI_USAGE */

/* Standard output.  A failure is said once and sticks; a reader that went away (EPIPE) ends the program quietly, by
 * SIGPIPE, as it would end any other. */
void out_write(const void *p, size_t n);
void out_str(const char *s);
void out_fmt(const char *fmt, ...) PRINTF_LIKE(1, 2);
void out_buf(const Buf *b);          /* and out of memory is a failure */
void out_flush(void);
bool out_failed(void);
/* Text that others wrote, shown on a terminal: control characters, which could move the cursor or worse, as U+FFFD. */
void out_text(const char *s, size_t n);
void err_text(const char *s, size_t n); /* the same on standard error */
void say_raw(const char *s);            /* as it is: the program's own escape sequences */

typedef enum Style { STYLE_DIM, STYLE_BOLD, STYLE_RED, STYLE_GREEN, STYLE_OFF } Style;
bool        term_is(int fd);             /* a terminal */
bool        term_styled(int fd);         /* a terminal that takes colours, and NO_COLOR is not set */
const char *term_style(int fd, Style s); /* the escape sequence, or "" */
int         term_columns(int fd);        /* 80 when not known */
void        die_by(int sig);             /* by that signal; does not return */

/* ---- Ctrl-C (interrupt.c) ---- */
/* From now on the first SIGINT (SIGTERM and SIGHUP too with `all`) is only noted; a second one of a batch job kills. */
void interrupt_watch(bool all);
int  interrupted(void);        /* the signal's number, or 0 */
void hangup_watch(void);       /* from now on SIGHUP is a request of its own, not an end */
bool hung_up(void);            /* whether there was one since the last call */
void interrupt_clear(void);    /* a conversation goes on: noted again next time */

/* ---- progress bars (progress.c) ---- on a terminal (standard error), for what takes over two seconds */
typedef struct Progress {
    char     label[48];
    uint64_t start_ns, shown_ns;
} Progress;
void progress_start(Progress *p, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* left_s < 0: estimated from the share that is done.  line: what else is worth seeing, or NULL */
void progress_show(Progress *p, int64_t done, int64_t total, double left_s, const char *line);
void progress_end(Progress *p); /* takes the bar away; harmless when there is none */
/* "1:02:03", "2:03" */
const char *time_words(char dst[32], double s);
/* "1.5 GB" (10^9); "13.4M" */
const char *bytes_words(char dst[32], double bytes);
const char *count_words(char dst[32], double n);

/* ---- input ---- (input.c) */
enum { INPUT_TEXT_MAX = 64 << 20 };
/* All of standard input; AHA_ERR_LIMIT above max_bytes */
int input_stdin(Buf *out, size_t max_bytes, aha_error *e);
/* An argument as text: "-" standard input, "@FILE" the file's content, anything else itself.  *file: where it came from, or NULL. */
int input_text(const char *arg, Buf *out, const char **file, aha_error *e);
/* A list of ids: "0,5,9", "[0, 5, 9]", or blanks between.  what: for messages.  mem_free(*id) */
int input_ids(const char *s, size_t n, const char *what, int32_t **id, int *count, aha_error *e);

/* ---- libraries (libraries.c) ---- */
typedef struct Library {
    const char *name, *purpose, *licence, *home;
    const char *(*version)(void);
} Library;
const Library *library_table(int *n);

#endif
