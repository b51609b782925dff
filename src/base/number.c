/* Decimal numbers as files and command lines write them. */
#include "base.h"

#include <locale.h>
#include <pthread.h>
#include <stdlib.h>

static locale_t       plain;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void plain_make(void)
{
    plain = newlocale(LC_ALL_MASK, "C", (locale_t)0);
}

double number_read(const char *s, char **end)
{
    pthread_once(&once, plain_make);
    if (plain == (locale_t)0) return strtod(s, end); /* out of memory: the host's locale decides after all */
    return strtod_l(s, end, plain);
}
