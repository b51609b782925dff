/* options: one table-driven parser for all commands.  A command states its options as rows that point at variables holding
 * the defaults; parsing, range checks, messages and the help text all come from the rows. */
#ifndef AHA_CLI_OPTIONS_H
#define AHA_CLI_OPTIONS_H

#include "cli.h"

typedef enum OptionKind {
    OPTION_END,
    OPTION_GROUP,  /* a heading in the help */
    OPTION_FLAG,   /* sets a bool */
    OPTION_SWITCH, /* --name / --no-name: 1 / 0 (an int that starts at -1: not said) */
    OPTION_INT,
    OPTION_INTS,   /* whole numbers with commas between them */
    OPTION_SIZE,   /* int64_t, with k, m, g for 2^10, 2^20, 2^30 */
    OPTION_SEED,   /* uint64_t; sets a bool too */
    OPTION_FLOAT,
    OPTION_STRING,
    OPTION_LIST,   /* a string each time it is given */
    OPTION_CHOICE  /* one of a list of names */
} OptionKind;

enum { OPTION_LIST_MAX = 64 };
typedef struct OptionList {
    const char *item[OPTION_LIST_MAX];
    int         n;
} OptionList;

enum { OPTION_INTS_MAX = 16 };
typedef struct OptionInts {
    int v[OPTION_INTS_MAX], n;
} OptionInts;

typedef struct Option {
    OptionKind  kind;
    char        letter; /* 0: none */
    const char *name, *arg, *help;
    union {
        bool        *flag;
        int         *number;
        int64_t     *size;
        uint64_t    *seed;
        double      *real;
        const char **string;
        OptionList  *list;
        OptionInts  *ints;
    } to;
    double             lo, hi;
    const char *const *choice; /* NULL-terminated */
    bool              *given;
} Option;

#define OPT_GROUP(title) {.kind = OPTION_GROUP, .help = (title)}
#define OPT_FLAG(c, n, p, h) {.kind = OPTION_FLAG, .letter = (c), .name = (n), .to.flag = (p), .help = (h)}
#define OPT_SWITCH(n, p, h) {.kind = OPTION_SWITCH, .name = (n), .to.number = (p), .help = (h)}
#define OPT_INT(c, n, p, l, u, a, h)                                                                                   \
    {.kind = OPTION_INT, .letter = (c), .name = (n), .to.number = (p), .lo = (l), .hi = (u), .arg = (a), .help = (h)}
#define OPT_INTS(c, n, p, l, u, a, h)                                                                                  \
    {.kind = OPTION_INTS, .letter = (c), .name = (n), .to.ints = (p), .lo = (l), .hi = (u), .arg = (a), .help = (h)}
#define OPT_SIZE(c, n, p, l, u, a, h)                                                                                  \
    {.kind = OPTION_SIZE, .letter = (c), .name = (n), .to.size = (p), .lo = (l), .hi = (u), .arg = (a), .help = (h)}
#define OPT_SEED(n, p, g, h) {.kind = OPTION_SEED, .name = (n), .to.seed = (p), .given = (g), .arg = "S", .help = (h)}
#define OPT_FLOAT(c, n, p, l, u, a, h)                                                                                 \
    {.kind = OPTION_FLOAT, .letter = (c), .name = (n), .to.real = (p), .lo = (l), .hi = (u), .arg = (a), .help = (h)}
#define OPT_STRING(c, n, p, a, h)                                                                                      \
    {.kind = OPTION_STRING, .letter = (c), .name = (n), .to.string = (p), .arg = (a), .help = (h)}
#define OPT_LIST(n, p, a, h) {.kind = OPTION_LIST, .name = (n), .to.list = (p), .arg = (a), .help = (h)}
#define OPT_CHOICE(c, n, p, list, a, h)                                                                                \
    {.kind = OPTION_CHOICE, .letter = (c), .name = (n), .to.string = (p), .choice = (list), .arg = (a), .help = (h)}
#define OPT_END {.kind = OPTION_END}

typedef struct Help {
    const char *name;     /* "run" */
    const char *usage;    /* what follows "aha run" */
    const char *text;     /* what it does; lines are wrapped */
    const char *examples; /* shown as they are */
} Help;

enum { OPTIONS_GO_ON = -1 };
/* Reads argv[1..]; what is no option goes to rest (at most rest_max of them).  OPTIONS_GO_ON, or the status to exit with:
 * after --help, which every command has, or after a mistake, which was said. */
int options_parse(const Help *h, const Option *o, int argc, char **argv, const char **rest, int rest_max, int *n_rest);
void options_help(const Help *h, const Option *o); /* on standard output (options_help.c) */
/* Text wrapped at the terminal's width, each line indented. */
void help_wrap(const char *text, int indent, int first_column);

#endif
