/* Small safetensors files made by hand. */
#ifndef AHA_TESTS_BLOB_H
#define AHA_TESTS_BLOB_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Length, header, and `size` bytes 0, 1, 2, ...; *n is the length of it all. */
static uint8_t *blob(const char *header, size_t size, size_t *n)
{
    size_t   len = strlen(header);
    uint8_t *b = malloc(8 + len + size);
    for (int i = 0; i < 8; i++) b[i] = (uint8_t)((uint64_t)len >> (8 * i));
    memcpy(b + 8, header, len);
    for (size_t i = 0; i < size; i++) b[8 + len + i] = (uint8_t)i;
    *n = 8 + len + size;
    return b;
}

#define T(name, dtype, shape, range) "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" range "}"

static const char GOOD[] = "{\"__metadata__\":{\"format\":\"pt\",\"k\":\"\\u00e9\\\"\"},"
                           "\"a.weight\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]},"
                           "\"b\":{\"shape\":[],\"data_offsets\":[29,31],\"dtype\":\"BF16\"},"
                           " \"c\" : { \"dtype\" : \"U8\" , \"shape\" : [ 5 , 1 ] , \"data_offsets\" : [ 24 , 29 ] } }   ";
enum { GOOD_BYTES = 31 };

#endif
