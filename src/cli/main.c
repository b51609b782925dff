/* aha: one program, a command per file. */
#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"

static const Command COMMANDS[] = {
    {"run", "one answer to one prompt, or one each to the lines of a file", cmd_run},
    {"chat", "a conversation in the terminal", cmd_chat},
    {"serve", "the model for others: an OpenAI-compatible API over HTTP", cmd_serve},
    {"keys", "who may use a server, and how much", cmd_keys},
    {"usage", "what was used, by key and day", cmd_usage},
    {"learn", "train: a recipe from random weights to a report", cmd_learn},
    {"eval", "accuracy on problems with answers that a rule can judge", cmd_eval},
    {"score", "log-probabilities of given tokens", cmd_score},
    {"tokenize", "text to token ids, ids to text, conversations to ids", cmd_tokenize},
    {"pull", "a model from the Hugging Face hub: resumed, checked, shared with other tools", cmd_pull},
    {"convert", "a model as a GGUF file or a Hugging Face folder, its weights in a type of choice", cmd_convert},
    {"imatrix", "how much each column of a model's matrices matters on a text, for convert", cmd_imatrix},
    {"inspect", "what is in a model, and whether it is sound", cmd_inspect},
    {"plan", "what fits where on this machine, at which length, and how fast at best", cmd_plan},
    {"bench", "how fast prompts are read and answers written", cmd_bench},
    {"doctor", "this machine: processor, memory, disk, GPU, libraries", cmd_doctor},
};
enum { COMMAND_COUNT = ARRAY_LEN(COMMANDS) };

static int help(void)
{
    const char *bold = term_style(STDOUT_FILENO, STYLE_BOLD), *off = term_style(STDOUT_FILENO, STYLE_OFF);
    int         n;
    const Knob *knob = knob_table(&n);
    out_fmt("%saha%s " AHA_VERSION ": DeepSeek-R1 in C. Run it, serve it, train it, judge it.\n\n", bold, off);
    out_fmt("%sUsage:%s aha COMMAND [OPTIONS]      aha COMMAND --help says more\n\n%sCommands%s\n", bold, off, bold, off);
    for (int i = 0; i < COMMAND_COUNT; i++) out_fmt("  %-10s %s\n", COMMANDS[i].name, COMMANDS[i].summary);
    out_fmt("\n  --version  this program's version\n  --licenses the libraries it uses, and their licences\n");
    out_fmt("\n%sExamples%s\n"
            "  aha run \"Using 8, 13 and 2, make 29.\"\n"
            "  aha run -m $(aha pull deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B) \"Make 29.\"\n"
            "  aha chat -m DeepSeek-R1-Distill-Qwen-1.5B\n"
            "  aha learn laptop\n"
            "  aha eval countdown -m runs/laptop/rl\n"
            "\n%sEnvironment%s\n", bold, off, bold, off);
    for (int i = 0; i < n; i++) out_fmt("  %-13s %s\n", knob[i].name, knob[i].help);
    out_fmt("  %-13s %s\n", "NO_COLOR", "no colours");
    out_fmt("\nExit status: 0 done, 1 failed, 2 wrong usage.\n");
    return CLI_DONE;
}

static int licenses(void)
{
    int            n;
    const Library *l = library_table(&n);
    out_fmt("aha %s is free software under the MIT licence. It stands on these libraries, linked dynamically:\n\n", aha_version());
    for (int i = 0; i < n; i++)
        out_fmt("  %-14s %-29s %s\n  %-14s %s\n", l[i].name, l[i].licence, l[i].purpose, "", l[i].home);
    out_str("\nSome of them load others in turn: ldd shows all. Inside the program are:\n\n"
            "  aha-tiny       MIT                           the built-in model, trained by this program\n"
            "  IQ grids       MIT                           tables of GGUF's IQ types, from the package gguf\n"
            "                 (c) 2023 Georgi Gerganov, https://github.com/ggml-org/ggml\n");
    return CLI_DONE;
}

static const Command *command_find(const char *name)
{
    for (int i = 0; i < COMMAND_COUNT; i++)
        if (!strcmp(COMMANDS[i].name, name)) return &COMMANDS[i];
    return NULL;
}

static int command_unknown(const char *name)
{
    const char *names[COMMAND_COUNT + 3], *near;
    char        q[80];
    int         n = 0;
    for (; n < COMMAND_COUNT; n++) names[n] = COMMANDS[n].name;
    names[n++] = "--help";
    names[n++] = "--version";
    names[n++] = "--licenses";
    near = name_nearest(name, names, n);
    error_quote(q, sizeof q, name, strlen(name));
    return fail_usage(name[0] == '-' ? "unknown option %s%s%s%s" : "there is no command '%s'%s%s%s", q, near ? "; did you mean " : "",
                      near ? near : "", near ? "?" : "");
}

static int dispatch(int argc, char **argv)
{
    const char    *name = argc > 1 ? argv[1] : NULL;
    const Command *c;
    aha_error      e = {0};
    if (!name) {
        for (int i = 0; i < COMMAND_COUNT; i++) say_plain("  aha %-10s %s", COMMANDS[i].name, COMMANDS[i].summary);
        return fail_usage("a command is expected");
    }
    if (!strcmp(name, "--help") || !strcmp(name, "-h") || (!strcmp(name, "help") && argc < 3)) return help();
    if (!strcmp(name, "--version") || !strcmp(name, "-V")) {
        out_fmt("aha %s\n", aha_version());
        return CLI_DONE;
    }
    if (!strcmp(name, "--licenses") || !strcmp(name, "--licences")) return licenses();
    if (!strcmp(name, "help")) { /* aha help run */
        static char ask[] = "--help";
        char       *args[] = {argv[2], ask, NULL};
        if (!(c = command_find(argv[2]))) return command_unknown(argv[2]);
        return c->run(2, args);
    }
    if (!(c = command_find(name))) return command_unknown(name);
    cli_begin(c->name);
    if (knob_check(&e)) return fail(&e);
    return c->run(argc - 1, argv + 1);
}

/* A closed standard descriptor would be given to the first file that is opened, and our output would end up in it. */
static void standard_descriptors(void)
{
    for (int fd = 0; fd <= 2; fd++)
        if (fcntl(fd, F_GETFD) < 0 && errno == EBADF && open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY) != fd) _exit(CLI_FAILED);
}

/* Text is UTF-8 here, whatever the locale: the line editor goes by it.  Numbers keep their points. */
static void locale_begin(void)
{
    if (!setlocale(LC_CTYPE, "") || !strstr(setlocale(LC_CTYPE, NULL), "UTF-8")) {
        if (!setlocale(LC_CTYPE, "C.UTF-8")) setlocale(LC_CTYPE, "");
    }
}

int main(int argc, char **argv)
{
    int status;
    standard_descriptors();
    signal(SIGPIPE, SIG_IGN); /* noticed where it is written: see out_write */
    locale_begin();
    cli_begin(NULL);
    status = dispatch(argc, argv);
    out_flush();
    if (out_failed() && status == CLI_DONE) status = CLI_FAILED;
    if (interrupted()) die_by(interrupted());
    return status;
}
