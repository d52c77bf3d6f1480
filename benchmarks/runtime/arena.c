/* Reads memory as fast as one core can: what bounds a decode step that has to read all weights. */

#include <stddef.h>
#include <stdint.h>

typedef uint64_t line __attribute__((vector_size(64), aligned(64)));

/* XOR of `count` cache lines at `data`, read `passes` times. Four streams, since prefetchers follow several at once and
   one core gets more out of memory that way; the barrier keeps every pass. */
uint64_t read_all(const line *data, size_t count, int passes)
{
    size_t quarter = count / 4;
    line a = {0}, b = {0}, c = {0}, d = {0};
    for (int pass = 0; pass < passes; pass++) {
        for (size_t i = 0; i < quarter; i++) {
            a ^= data[i];
            b ^= data[i + quarter];
            c ^= data[i + 2 * quarter];
            d ^= data[i + 3 * quarter];
        }
        __asm__ volatile("" : : : "memory");
    }
    a ^= b ^ c ^ d;
    return a[0] ^ a[1] ^ a[2] ^ a[3] ^ a[4] ^ a[5] ^ a[6] ^ a[7];
}
