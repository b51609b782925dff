/* Reading the command line by a table. */
#include "options.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { NAMES_MAX = 64, SHOWN = 80 };

static const char *shown(char dst[SHOWN], const char *s)
{
    return error_quote(dst, SHOWN, s, strlen(s));
}

/* ---- values ---- */
static int wrong(const Option *o, const char *value, const char *expected)
{
    char q[SHOWN];
    return fail_usage("--%s is '%s', expected %s", o->name, shown(q, value), expected);
}

static int out_of_range(const Option *o, const char *value)
{
    char expected[96];
    snprintf(expected, sizeof expected, o->kind == OPTION_FLOAT ? "%g to %g" : "%.0f to %.0f", o->lo, o->hi);
    return wrong(o, value, expected);
}

static int set_whole(const Option *o, const char *value)
{
    char       *end;
    long long   v;
    double      unit = 1;
    const char *suffix = "kmg", *at;
    errno = 0;
    v = strtoll(value, &end, 10);
    if (o->kind == OPTION_SIZE && end != value && *end && !end[1] && (at = strchr(suffix, *end | 0x20)) != NULL) {
        unit = (double)(1 << (10 * (at - suffix + 1)));
        end++;
    }
    if (end == value || *end || strchr(" \t\n", value[0]))
        return wrong(o, value, o->kind == OPTION_SIZE ? "a whole number, as 4096 or 4k" : "a whole number");
    if (errno || (double)v * unit < o->lo || (double)v * unit > o->hi) return out_of_range(o, value);
    if (o->kind == OPTION_SIZE)
        *o->to.size = (int64_t)v * (int64_t)unit;
    else
        *o->to.number = (int)v;
    return 0;
}

static int set_ints(const Option *o, const char *value)
{
    OptionInts *l = o->to.ints;
    const char *at = value;
    char       *end;
    l->n = 0;
    do {
        errno = 0;
        long long v = strtoll(at, &end, 10);
        if (*at < '0' || *at > '9' || (*end && *end != ',')) return wrong(o, value, "whole numbers with commas between them, as 1,4,16");
        if (errno || (double)v < o->lo || (double)v > o->hi) return out_of_range(o, value);
        if (l->n == OPTION_INTS_MAX) return fail_usage("--%s has more than %d numbers", o->name, OPTION_INTS_MAX);
        l->v[l->n++] = (int)v;
        at = end + 1;
    } while (*end);
    return 0;
}

static int set_seed(const Option *o, const char *value)
{
    char *end;
    errno = 0;
    unsigned long long v = strtoull(value, &end, 10);
    if (*value < '0' || *value > '9' || *end || errno) return wrong(o, value, "a whole number from 0 to 18446744073709551615");
    *o->to.seed = v;
    return 0;
}

static int set_float(const Option *o, const char *value)
{
    char  *end;
    double v = number_read(value, &end);
    if (end == value || *end || !isfinite(v) || strchr(" \t\n", value[0])) return wrong(o, value, "a number");
    if (v < o->lo || v > o->hi) return out_of_range(o, value);
    *o->to.real = v;
    return 0;
}

static int add_to_list(const Option *o, const char *value)
{
    OptionList *l = o->to.list;
    if (l->n == OPTION_LIST_MAX) return fail_usage("--%s is given more than %d times", o->name, OPTION_LIST_MAX);
    l->item[l->n++] = value;
    return 0;
}

static int set_choice(const Option *o, const char *value)
{
    Buf b = {0};
    int n = 0, status;
    for (; o->choice[n]; n++)
        if (!strcasecmp(value, o->choice[n])) {
            *o->to.string = o->choice[n];
            return 0;
        }
    const char *near = name_nearest(value, o->choice, n);
    for (int i = 0; i < n; i++) buf_fmt(&b, "%s%s", i == 0 ? "" : i + 1 < n ? ", " : " or ", o->choice[i]);
    if (near) buf_fmt(&b, "; did you mean %s?", near);
    status = wrong(o, value, b.data ? b.data : "another");
    buf_free(&b);
    return status;
}

static int set_value(const Option *o, const char *value)
{
    int status = 0;
    switch (o->kind) {
    case OPTION_INT:
    case OPTION_SIZE: status = set_whole(o, value); break;
    case OPTION_INTS: status = set_ints(o, value); break;
    case OPTION_SEED: status = set_seed(o, value); break;
    case OPTION_FLOAT: status = set_float(o, value); break;
    case OPTION_STRING: *o->to.string = value; break;
    case OPTION_LIST: status = add_to_list(o, value); break;
    case OPTION_CHOICE: status = set_choice(o, value); break;
    default: break;
    }
    if (o->given) *o->given = true;
    return status;
}

/* ---- names ---- */
static bool takes_value(const Option *o) { return o->kind != OPTION_FLAG && o->kind != OPTION_SWITCH; }

typedef struct Found {
    const Option *o;
    bool          no; /* --no-NAME of a switch */
} Found;

static Found find_long(const Option *o, const char *name, size_t n)
{
    for (; o->kind != OPTION_END; o++) {
        if (!o->name) continue;
        if (strlen(o->name) == n && !memcmp(o->name, name, n)) return (Found){o, false};
        if (o->kind == OPTION_SWITCH && n > 3 && !memcmp(name, "no-", 3) && strlen(o->name) == n - 3 && !memcmp(o->name, name + 3, n - 3))
            return (Found){o, true};
    }
    return (Found){NULL, false};
}

static const Option *find_letter(const Option *o, char letter)
{
    for (; o->kind != OPTION_END; o++)
        if (o->letter == letter && letter) return o;
    return NULL;
}

static int unknown(const Option *o, const char *arg)
{
    const char *names[NAMES_MAX], *near;
    char        q[SHOWN], name[64];
    int         n = 0;
    size_t      len = strcspn(arg, "=");
    names[n++] = "help";
    for (; o->kind != OPTION_END && n < NAMES_MAX; o++)
        if (o->name) names[n++] = o->name;
    if (!strncmp(arg, "--", 2) && len - 2 < sizeof name) {
        memcpy(name, arg + 2, len - 2);
        name[len - 2] = 0;
        near = name_nearest(name, names, n);
        if (near) return fail_usage("unknown option %s; did you mean --%s?", shown(q, arg), near);
    }
    return fail_usage("unknown option %s", shown(q, arg));
}

/* ---- the line ---- */
typedef struct Parse {
    const Help   *h;
    const Option *o;
    int           argc, at;
    char        **argv;
} Parse;

static int no_value(const Option *o)
{
    if (o->letter) return fail_usage("-%c, --%s: needs a value (%s)", o->letter, o->name, o->arg);
    return fail_usage("--%s needs a value (%s)", o->name, o->arg);
}

/* The value in the next argument.  What starts with two dashes is taken for an option that was meant: --name=--value says it. */
static int next_value(Parse *p, const Option *o)
{
    if (p->at >= p->argc || !strncmp(p->argv[p->at], "--", 2)) return no_value(o);
    return set_value(o, p->argv[p->at++]);
}

static void set_flag(const Option *o, bool no)
{
    if (o->kind == OPTION_FLAG)
        *o->to.flag = true;
    else
        *o->to.number = !no;
}

static int parse_long(Parse *p, const char *arg)
{
    const char *eq = strchr(arg, '=');
    Found       f = find_long(p->o, arg + 2, eq ? (size_t)(eq - arg) - 2 : strlen(arg) - 2);
    if (!strcmp(arg, "--help")) {
        options_help(p->h, p->o);
        return CLI_DONE;
    }
    if (!f.o) return unknown(p->o, arg);
    if (takes_value(f.o)) {
        int status = eq ? set_value(f.o, eq + 1) : next_value(p, f.o);
        return status ? status : OPTIONS_GO_ON;
    }
    if (eq) return fail_usage("--%s takes no value", f.o->name);
    set_flag(f.o, f.no);
    return OPTIONS_GO_ON;
}

static int parse_letters(Parse *p, const char *arg)
{
    for (const char *c = arg + 1; *c; c++) {
        const Option *o = find_letter(p->o, *c);
        if (!o && *c == 'h') {
            options_help(p->h, p->o);
            return CLI_DONE;
        }
        if (!o) return unknown(p->o, arg);
        if (takes_value(o)) {
            int status = c[1] ? set_value(o, c + 1) : next_value(p, o);
            return status ? status : OPTIONS_GO_ON;
        }
        set_flag(o, false);
    }
    return OPTIONS_GO_ON;
}

int options_parse(const Help *h, const Option *o, int argc, char **argv, const char **rest, int rest_max, int *n_rest)
{
    Parse p = {h, o, argc, 1, argv};
    bool  ended = false;
    int   n = 0;
    if (n_rest) *n_rest = 0;
    while (p.at < argc) {
        const char *arg = argv[p.at++];
        int         status = OPTIONS_GO_ON;
        if (!ended && !strcmp(arg, "--"))
            ended = true;
        else if (!ended && arg[0] == '-' && arg[1] == '-')
            status = parse_long(&p, arg);
        else if (!ended && arg[0] == '-' && arg[1])
            status = parse_letters(&p, arg);
        else if (n < rest_max)
            rest[n++] = arg;
        else {
            char q[SHOWN];
            status = fail_usage("unexpected argument '%s'", shown(q, arg));
        }
        if (status != OPTIONS_GO_ON) return status;
    }
    if (n_rest) *n_rest = n;
    return OPTIONS_GO_ON;
}
