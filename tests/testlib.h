/* What the tests share. */
#ifndef AHA_TESTLIB_H
#define AHA_TESTLIB_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"

/* fails with the library's words when rc is not 0 */
#define ASSERT_OK(rc, err)                                                                                            \
    do {                                                                                                              \
        int rc_ = (rc);                                                                                               \
        if (rc_) fail_msg("%s: %s", aha_error_name(rc_), (err).text);                                                 \
    } while (0)

#endif
