/* The help text, from the same rows that parse. */
#include "options.h"

#include <string.h>
#include <unistd.h>

enum { HELP_COLUMN = 28, HELP_WIDTH_MAX = 100 };

static int help_width(void)
{
    int w = term_columns(STDOUT_FILENO);
    return w > HELP_WIDTH_MAX ? HELP_WIDTH_MAX : w < 40 ? 40 : w;
}

void help_wrap(const char *text, int indent, int first_column)
{
    int width = help_width(), column = first_column;
    while (*text) {
        size_t n = strcspn(text, " \n");
        if (column > indent && column + 1 + (int)n > width) {
            out_fmt("\n%*s", indent, "");
            column = indent;
        } else if (column > indent) {
            out_str(" ");
            column++;
        }
        out_write(text, n);
        column += (int)n;
        text += n;
        if (*text == '\n') {
            out_fmt("\n%*s", text[1] ? indent : 0, "");
            column = indent;
        }
        text += *text != 0;
    }
    out_str("\n");
}

static void add_default(const Option *o, Buf *b)
{
    switch (o->kind) {
    case OPTION_INT:
        if (*o->to.number > 0) buf_fmt(b, " (default %d)", *o->to.number);
        break;
    case OPTION_INTS:
        for (int i = 0; i < o->to.ints->n; i++) buf_fmt(b, "%s%d", i ? "," : " (default ", o->to.ints->v[i]);
        buf_str(b, o->to.ints->n ? ")" : "");
        break;
    case OPTION_SIZE:
        if (*o->to.size > 0) buf_fmt(b, " (default %lld)", (long long)*o->to.size);
        break;
    case OPTION_FLOAT: buf_fmt(b, " (default %g)", *o->to.real); break;
    case OPTION_STRING:
    case OPTION_CHOICE:
        if (*o->to.string && **o->to.string) buf_fmt(b, " (default %s)", *o->to.string);
        break;
    default: break;
    }
}

static void add_name(const Option *o, Buf *b)
{
    if (o->letter)
        buf_fmt(b, "  -%c, ", o->letter);
    else
        buf_str(b, "      ");
    buf_fmt(b, o->kind == OPTION_SWITCH ? "--[no-]%s" : "--%s", o->name);
    if (o->kind == OPTION_CHOICE)
        for (int i = 0; o->choice[i]; i++) buf_fmt(b, "%c%s", i ? '|' : ' ', o->choice[i]);
    else if (o->arg)
        buf_fmt(b, " %s", o->arg);
}

static void help_row(const Option *o)
{
    Buf left = {0}, right = {0};
    add_name(o, &left);
    buf_str(&right, o->help);
    add_default(o, &right);
    if (!left.failed && !right.failed) {
        out_str(left.data);
        if (left.n + 2 > HELP_COLUMN)
            out_fmt("\n%*s", HELP_COLUMN, "");
        else
            out_fmt("%*s", HELP_COLUMN - (int)left.n, "");
        help_wrap(right.data, HELP_COLUMN, HELP_COLUMN);
    }
    buf_free(&left);
    buf_free(&right);
}

void options_help(const Help *h, const Option *o)
{
    const char *bold = term_style(STDOUT_FILENO, STYLE_BOLD), *off = term_style(STDOUT_FILENO, STYLE_OFF);
    out_fmt("%sUsage:%s aha %s %s\n\n", bold, off, h->name, h->usage);
    help_wrap(h->text, 0, 0);
    if (o->kind != OPTION_GROUP) out_fmt("\n%sOptions%s\n", bold, off);
    for (; o->kind != OPTION_END; o++) {
        if (o->kind == OPTION_GROUP)
            out_fmt("\n%s%s%s\n", bold, o->help, off);
        else
            help_row(o);
    }
    out_fmt("  -h, --help%*s", HELP_COLUMN - 12, "");
    out_str("this help\n");
    out_fmt("\n%sExamples%s\n%s", bold, off, h->examples);
}
