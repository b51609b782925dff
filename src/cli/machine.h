/* machine: what this computer is and does, measured.  For doctor and bench. */
#ifndef AHA_CLI_MACHINE_H
#define AHA_CLI_MACHINE_H

#include "../cpu/cpu.h"
#include "cli.h"

/* Processor time of all kinds, and what the host of a virtual machine took of it (/proc/stat). */
typedef struct StolenTime {
    double all, stolen;
    bool   known;
} StolenTime;
StolenTime stolen_time(void);
double     machine_load(void); /* processes that want a core, over the last minute; -1: not known */
double     stolen_share(StolenTime from, StolenTime to); /* -1: not known */

const char *cpu_model_name(char dst[96]);
int         cpu_count(void); /* of the machine, usable or not */
uint64_t    memory_available(void); /* bytes that could be had now; 0: not known */

/* What nothing on this machine goes beyond, all threads of a pool together: bytes a second read from memory (the median of four
 * passes), operations a second of multiply-adds in f32 and of products of bytes (the best of three), in registers.  An operation is
 * a multiplication or an addition.  0: not measured. */
typedef struct Limits {
    double      memory, fma, dot8;
    const char *dot8_name; /* the instruction that multiplies bytes */
} Limits;
typedef struct Meter Meter; /* to measure again and again: holds a GiB to read */
Meter *meter_new(Pool *pool, const Kernels *k); /* NULL: no memory */
void   meter_free(Meter *m);
Limits meter_read(Meter *m); /* takes about 0.1 s */
Limits machine_limits(Pool *pool, const Kernels *k); /* once */
/* What this program's own matrix product reaches, in flop/s. */
double measure_gemm(Pool *pool, const Kernels *k);
/* Bytes a second read from a file in `dir`, past the system's cache where it lets us, by four readers.  The file has no name and
 * goes with the process. */
typedef struct DiskSpeed {
    double read; /* bytes/s */
    bool   direct; /* O_DIRECT: the cache was really passed */
} DiskSpeed;
int measure_disk(DiskSpeed *out, const char *dir, size_t bytes, aha_error *e);

/* GPUs by the driver's own word: names, one a line.  Returns how many; 0 when there is no driver. */
int gpu_list(Buf *names);

#endif
