/* Ctrl-C: noted, so that the work in hand can end well. */
#include "cli.h"

#include <signal.h>
#include <string.h>

static volatile sig_atomic_t g_signal;

static void note(int sig) { g_signal = sig; }

static void watch_one(int sig, bool once)
{
    struct sigaction a, old;
    if (sigaction(sig, NULL, &old) == 0 && old.sa_handler == SIG_IGN && sig == SIGHUP) return; /* nohup */
    memset(&a, 0, sizeof a);
    a.sa_handler = note;
    a.sa_flags = once ? (int)SA_RESETHAND : 0; /* no SA_RESTART: a read that waits for a line ends too */
    sigemptyset(&a.sa_mask);
    sigaction(sig, &a, NULL);
}

static bool g_once;

void interrupt_watch(bool all)
{
    g_once = all;
    watch_one(SIGINT, all);
    if (!all) return;
    watch_one(SIGTERM, true);
    watch_one(SIGHUP, true);
}

int interrupted(void) { return g_signal; }

static volatile sig_atomic_t g_hangup;

static void note_hangup(int sig) { g_hangup = sig; }

void hangup_watch(void)
{
    struct sigaction a;
    memset(&a, 0, sizeof a);
    a.sa_handler = note_hangup;
    sigemptyset(&a.sa_mask);
    sigaction(SIGHUP, &a, NULL);
}

bool hung_up(void)
{
    bool was = g_hangup != 0;
    g_hangup = 0;
    return was;
}

void interrupt_clear(void)
{
    g_signal = 0;
    if (g_once) interrupt_watch(true);
}
