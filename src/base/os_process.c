/* The seam, other programs: run to their end, what they print kept. */
#include "os_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static int start(pid_t *pid, const char *const *argv, int out, bool quiet)
{
    posix_spawn_file_actions_t f;
    int                        r = posix_spawn_file_actions_init(&f);
    if (r) return r;
    r = posix_spawn_file_actions_addopen(&f, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    if (r == 0) r = posix_spawn_file_actions_adddup2(&f, out, STDOUT_FILENO);
    if (r == 0 && quiet) r = posix_spawn_file_actions_addopen(&f, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
    if (r == 0) r = posix_spawn(pid, argv[0], &f, NULL, (char *const *)(uintptr_t)argv, environ);
    posix_spawn_file_actions_destroy(&f);
    return r;
}

/* What is above the bound is read and forgotten, so that the program comes to its end. */
static void read_all(int fd, Buf *out, size_t max_bytes, bool *more)
{
    char    part[4096];
    ssize_t n;
    while ((n = read(fd, part, sizeof part)) > 0 || (n < 0 && errno == EINTR)) {
        if (n < 0) continue;
        if (out->n + (size_t)n > max_bytes)
            *more = true;
        else
            buf_add(out, part, (size_t)n);
    }
}

int process_output(const char *const *argv, bool quiet, size_t max_bytes, Buf *out, int *status, aha_error *e)
{
    int   fd[2], r, st = 0;
    bool  more = false;
    pid_t pid;
    if (os_fault(OS_FAULT_OPEN) || pipe2(fd, O_CLOEXEC)) return error_set(e, AHA_ERR_IO, "cannot run '%.300s': no pipe", argv[0]);
    r = start(&pid, argv, fd[1], quiet);
    close(fd[1]);
    if (r == 0) {
        read_all(fd[0], out, max_bytes, &more);
        while (waitpid(pid, &st, 0) < 0 && errno == EINTR) {}
    }
    close(fd[0]);
    if (r) return error_set(e, AHA_ERR_IO, "cannot run '%.300s': %s", argv[0], strerror(r));
    if (more) return error_set(e, AHA_ERR_LIMIT, "'%.300s' printed more than %zu bytes", argv[0], max_bytes);
    if (out->failed) return error_set(e, AHA_ERR_NOMEM, "no memory for what '%.300s' printed", argv[0]);
    *status = WIFEXITED(st) ? WEXITSTATUS(st) : 128 + WTERMSIG(st);
    return 0;
}
