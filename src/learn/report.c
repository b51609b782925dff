/* DIR/report.html: what a run did, for a student or a sceptic, in one file that needs nothing else. */
#include "report.h"

int report_write(const char *dir, aha_error *e)
{
    char    path[4096];
    Buf     b = {0};
    int     rc = path_join(path, sizeof path, dir, "report.html", e);
    if (rc) return rc;
    Report *r = mem_zalloc(1, sizeof *r);
    if (!r) return error_set(e, AHA_ERR_NOMEM, "report: cannot get memory");
    rc = report_read(r, dir, e);
    if (!rc) {
        report_pick(r);
        page_write(&b, r);
        rc = b.failed ? error_set(e, AHA_ERR_NOMEM, "report: cannot get memory for the page")
                      : file_write_atomic(path, b.data, b.n, e);
    }
    buf_free(&b);
    report_free(r);
    mem_free(r);
    return rc;
}
