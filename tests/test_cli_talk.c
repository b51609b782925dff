/* The program as people talk to it: a conversation in a terminal, and a training run that is interrupted. */
#include <errno.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <termios.h>

#include "clilib.h"

enum { PATIENCE_MS = 120000 };

/* ---- a terminal with the program in it ---- */
typedef struct Talk {
    int    fd;
    pid_t  pid;
    Buf    seen;
    size_t at; /* what was waited for ends here */
} Talk;

static Talk talk_start_as_is(const char *args)
{
    Talk t = {0};
    char command[1024];
    snprintf(command, sizeof command, "M='%s'; D='%s'; exec %s %s", g_model, g_dir, program(), args);
    fflush(NULL);
    t.pid = forkpty(&t.fd, NULL, NULL, &(struct winsize){.ws_row = 24, .ws_col = 80});
    if (t.pid < 0 && access("/dev/pts/ptmx", F_OK) != 0) { /* a root without /dev/pts: nobody can sit at a terminal there */
        print_message("skipped: no pseudo-terminals here (is /dev/pts mounted?)\n");
        skip();
    }
    assert_true(t.pid >= 0);
    if (t.pid == 0) {
        setenv("TERM", "xterm", 1);
        execl("/bin/sh", "sh", "-c", command, (char *)NULL);
        _exit(127);
    }
    buf_str(&t.seen, "");
    return t;
}

static Talk talk_start(const char *args)
{
    unsetenv("NO_COLOR");
    return talk_start_as_is(args);
}

static void send_text(Talk *t, const char *s, size_t n)
{
    assert_int_equal(write(t->fd, s, n), (ssize_t)n);
}
#define SEND(t, s) send_text(t, s, sizeof(s) - 1)

/* More of what it shows; false: it is gone. */
static bool listen_on(Talk *t)
{
    char          chunk[4096];
    struct pollfd p = {.fd = t->fd, .events = POLLIN};
    if (poll(&p, 1, PATIENCE_MS) != 1) fail_msg("nothing more comes after:\n%s", t->seen.data);
    ssize_t n = read(t->fd, chunk, sizeof chunk);
    if (n <= 0) return false; /* EIO: the other side was closed */
    buf_add(&t->seen, chunk, (size_t)n);
    return true;
}

static void wait_for(Talk *t, const char *text)
{
    const char *found;
    while (!(found = strstr(t->seen.data + t->at, text)))
        if (!listen_on(t)) fail_msg("it ended; '%s' did not come:\n%s", text, t->seen.data);
    t->at = (size_t)(found - t->seen.data) + strlen(text);
}

static int talk_end(Talk *t)
{
    int st;
    while (listen_on(t)) {}
    assert_int_equal(waitpid(t->pid, &st, 0), t->pid);
    close(t->fd);
    buf_free(&t->seen);
    return WIFEXITED(st) ? WEXITSTATUS(st) : 128 + WTERMSIG(st);
}

/* ---- chat ---- */
static void chat_edits(void **state)
{
    (void)state;
    Talk t = talk_start("chat -m $M -n 8 --seed 1 -v");
    wait_for(&t, "> ");
    SEND(&t, "hellp\x7fo\r");
    wait_for(&t, "a question of 5 bytes in 1 lines");
    wait_for(&t, "\033[2m"); /* the thinking is dimmed */
    wait_for(&t, "\033[0m");
    wait_for(&t, "> ");
    SEND(&t, "\033[A!\r"); /* the one before, and more */
    wait_for(&t, "a question of 6 bytes in 1 lines");
    wait_for(&t, "> ");
    SEND(&t, "\xc3\xa4\xe2\x82\xac\xe4\xbd\xa0\r");
    wait_for(&t, "a question of 8 bytes in 1 lines");
    wait_for(&t, "> ");
    SEND(&t, "   \r"); /* nothing is asked */
    wait_for(&t, "> ");
    SEND(&t, "/hlep\r");
    wait_for(&t, "did you mean /help?");
    SEND(&t, "/help\r");
    wait_for(&t, "/reset");
    SEND(&t, "/quit\r");
    assert_int_equal(talk_end(&t), 0);
}

static void chat_pastes(void **state)
{
    (void)state;
    Talk t = talk_start("chat -m $M -n 8 --seed 1 -v");
    wait_for(&t, "\033[?2004h"); /* asks the terminal to bracket what is pasted */
    wait_for(&t, "> ");
    SEND(&t, "\033[200~one\rtwo\r\tthree\033[201~");
    wait_for(&t, "[pasted 3 lines #1]");
    SEND(&t, "\r");
    wait_for(&t, "a question of 14 bytes in 3 lines");
    wait_for(&t, "> ");
    SEND(&t, "look: \033[200~one\rtwo\r\033[201~ well\r"); /* in the middle of a line */
    wait_for(&t, "a question of 19 bytes in 3 lines");
    wait_for(&t, "> ");
    SEND(&t, "\033[200~short\033[201~\r"); /* stays text that can be edited */
    wait_for(&t, "short\r\n");
    wait_for(&t, "a question of 5 bytes in 1 lines");
    wait_for(&t, "> ");
    SEND(&t, "one\rtwo\rthree\r"); /* a terminal that does not bracket: one burst */
    wait_for(&t, "... ");
    wait_for(&t, "a question of 13 bytes in 3 lines");
    wait_for(&t, "> ");
    SEND(&t, "\004");
    assert_int_equal(talk_end(&t), 0);
}

#define ENDLESS "--bias 300:100 --no-stop-repeats" /* an answer that has not ended, however late it is interrupted */

static void chat_interrupts(void **state)
{
    struct termios before, after;
    (void)state;
    Talk t = talk_start("chat -m $M --seed 1 " ENDLESS);
    tcgetattr(t.fd, &before);
    wait_for(&t, "> ");
    SEND(&t, "half a li\003"); /* drops the line */
    wait_for(&t, "Ctrl-D or /quit ends");
    wait_for(&t, "> ");
    SEND(&t, "hello\r");
    wait_for(&t, "\033[2m");
    SEND(&t, "\003"); /* stops the answer, not the conversation */
    wait_for(&t, "forgotten");
    wait_for(&t, "> ");
    SEND(&t, "/reset\r");
    wait_for(&t, "begins anew");
    wait_for(&t, "> ");
    SEND(&t, "\004");
    while (listen_on(&t)) {}
    assert_int_equal(tcgetattr(t.fd, &after), 0); /* the terminal is as it was */
    assert_int_equal(before.c_lflag & (ICANON | ECHO | ISIG), after.c_lflag & (ICANON | ECHO | ISIG));
    assert_int_equal(talk_end(&t), 0);
}

static void chat_killed(void **state)
{
    struct termios after;
    (void)state;
    Talk t = talk_start("chat -m $M --seed 1");
    wait_for(&t, "> ");
    kill(t.pid, SIGTERM);
    while (listen_on(&t)) {}
    tcgetattr(t.fd, &after);
    assert_true(after.c_lflag & ICANON);
    assert_int_equal(talk_end(&t), 128 + SIGTERM);
}

static void chat_saves(void **state)
{
    char    lines[1024], *text;
    json_t *j;
    size_t  n;
    (void)state;
    snprintf(lines, sizeof lines, "/save\n/system Be \"short\".\n/system\n/save %s\n/save %s/talk.json\n/save %s/talk.json\n/bogus\n", g_dir, g_dir, g_dir);
    Ran r = ran_with(lines, strlen(lines), "chat -m $M -n 4");
    ASSERT_RAN(r, 0);
    assert_string_equal(r.out, "");
    ASSERT_HAS(r.err, "/save needs a file name");
    ASSERT_HAS(r.err, "system: Be \"short\".");
    ASSERT_HAS(r.err, "exists already");
    ASSERT_HAS(r.err, "1 message saved to");
    ASSERT_HAS(r.err, "there is no command '/bogus'");
    text = slurp("talk.json", &n);
    j = parsed(text);
    assert_string_equal(text_of(json_array_get(j, 0), "content"), "Be \"short\".");
    json_decref(j);
    ASSERT_RAN(ran("tokenize -m $M --chat <$D/talk.json"), 0);
    mem_free(text);
}

/* ---- run, and what takes long ---- */
static void run_interrupted(void **state)
{
    (void)state;
    Talk t = talk_start("run -m $M --seed 1 " ENDLESS " hello");
    wait_for(&t, "\033[2m"); /* it thinks, dimmed */
    SEND(&t, "\003");
    wait_for(&t, "\033[0m"); /* and leaves the terminal as it was */
    assert_int_equal(talk_end(&t), 128 + SIGINT);
}

static void run_without_colours(void **state)
{
    (void)state;
    setenv("NO_COLOR", "1", 1);
    Talk t = talk_start_as_is("run -m $M -n 20 --seed 1 hello");
    wait_for(&t, "<think>");
    wait_for(&t, "cut short after 20 tokens");
    while (listen_on(&t)) {}
    assert_null(strchr(t.seen.data, 27));
    unsetenv("NO_COLOR");
    assert_int_equal(talk_end(&t), 0);
}

/* What takes long shows how far it is and how long it will take, in one line that is gone in the end. */
static void long_work_shows_progress(void **state)
{
    (void)state;
    Talk t = talk_start("eval countdown -m $M --n 100000 --max-tokens 4");
    wait_for(&t, "[");
    wait_for(&t, "% ");
    wait_for(&t, " left");
    assert_null(strchr(t.seen.data, '\n'));
    SEND(&t, "\003");
    while (listen_on(&t)) {}
    assert_null(strstr(strrchr(t.seen.data, '\r'), " left"));
    assert_int_equal(talk_end(&t), 128 + SIGINT);
}

/* ---- learn ---- */
static const char RECIPE[] = "name = small\ntitle = a test\nseed = 3\ncontext = 200\nslot_tokens = 512\n"
                             "[model]\nd_model = 32\nn_layer = 2\nn_dense_first = 1\nn_head = 2\nnope = 8\nrope_dim = 8\nv_dim = 16\n"
                             "q_lora = 16\nkv_lora = 16\nd_ff = 32\nn_expert = 4\nn_expert_used = 2\nn_shared = 1\nd_expert = 16\nmax_pos = 512\n"
                             "[pretrain base]\ntasks = countdown3\ntokens = 2k\nbatch_tokens = 512\nlr = 1e-3\n"
                             "[eval base-eval]\ntasks = countdown3\nn = 4\nmax_new = 40\n";

static void learn_whole(void **state)
{
    (void)state;
    spill("small.ini", RECIPE, sizeof RECIPE - 1);
    ASSERT_HAS(ran("learn --keys").out, "[model]");
    Ran r = ran("learn $D/small --until bsae");
    ASSERT_RAN(r, 2);
    ASSERT_HAS(r.err, "did you mean base?");
    r = ran("learn $D/small --out $D/run");
    ASSERT_RAN(r, 0);
    ASSERT_HAS(r.out, "report: ");
    ASSERT_HAS(r.out, "/run/base");
    ASSERT_HAS(r.err, "base: ");
    assert_null(strchr(r.err, '\r')); /* no bars in a pipe */
    ASSERT_RAN(ran("inspect $D/run/base"), 0);
    ASSERT_RAN(ran("run -m $D/run/base -n 5 --json 'Make 29 from 2, 8, 13.'"), 0);
    r = ran("run -m $D/run -n 5 hi");
    ASSERT_RAN(r, 1);
    ASSERT_HAS(r.err, "/run/base");
}

static void learn_interrupted(void **state)
{
    (void)state;
    spill("small.ini", RECIPE, sizeof RECIPE - 1);
    Talk t = talk_start("learn $D/small --out $D/stopped --seed 5");
    wait_for(&t, "stages: base, base-eval");
    SEND(&t, "\003");
    wait_for(&t, "a checkpoint is written");
    wait_for(&t, "to go on: aha learn ");
    wait_for(&t, "--seed 5");
    assert_int_equal(talk_end(&t), 128 + SIGINT);
    Ran r = ran("learn $D/small --out $D/stopped --seed 5");
    ASSERT_RAN(r, 0);
    ASSERT_HAS(r.err, "going on with the run");
    ASSERT_HAS(r.out, "report: ");
}

static int teardown(void **state)
{
    static const char *const DIRS[] = {"run/checkpoint", "stopped/checkpoint", "run", "stopped"};
    for (size_t i = 0; i < ARRAY_LEN(DIRS); i++) {
        char path[512];
        snprintf(path, sizeof path, "%s/%s", g_dir, DIRS[i]);
        dir_remove_all(path, NULL);
    }
    return cli_teardown(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chat_edits),  cmocka_unit_test(chat_pastes), cmocka_unit_test(chat_interrupts),   cmocka_unit_test(chat_killed),
        cmocka_unit_test(chat_saves),  cmocka_unit_test(learn_whole), cmocka_unit_test(learn_interrupted),
        cmocka_unit_test(run_interrupted), cmocka_unit_test(run_without_colours), cmocka_unit_test(long_work_shows_progress),
    };
    return cmocka_run_group_tests(tests, cli_setup, teardown);
}
