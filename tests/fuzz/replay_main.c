/* SPDX-License-Identifier: Apache-2.0 */
/* replay_main.c - runs a fuzz target without a fuzzer: every file of its corpus as it is, then seeded mutations of
 * them, so that `make check` exercises each parser on hostile bytes under the sanitizers with no clang at hand.
 *
 *     fuzz_NAME_replay [--mutations N] [--seed S] [FILE or FOLDER]...
 *
 * The target is the same file that `make fuzz` links with libFuzzer. A mutation depends on (seed, its number) alone:
 * the number of the one that failed is on stderr before it runs when COUPLET_FUZZ_TRACE is set, and the seed is always
 * printed. Each input lies in its own allocation of exactly its size, so that AddressSanitizer sees a read past it. */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { FILES_MAX = 4096, SIZE_MAX_GROWN = 1 << 16, MUTATIONS_DEFAULT = 3000 };

typedef struct seed_file {
    uint8_t *data;
    size_t size;
} seed_file;

static seed_file files[FILES_MAX];
static size_t file_count;

static uint64_t next_random(uint64_t *state) /* splitmix64 */
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static void run_copy(const uint8_t *data, size_t size)
{
    uint8_t *exact = malloc(size ? size : 1);
    if (!exact) exit(2);
    if (size) memcpy(exact, data, size);
    LLVMFuzzerTestOneInput(exact, size);
    free(exact);
}

static int read_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    if (!f || fseek(f, 0, SEEK_END)) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        if (f) fclose(f);
        return 1;
    }
    long size = ftell(f);
    rewind(f);
    uint8_t *data = size >= 0 ? malloc((size_t)size + 1) : NULL;
    if (!data || file_count == FILES_MAX || fread(data, 1, (size_t)size, f) != (size_t)size) {
        fprintf(stderr, "%s: can't be read whole\n", path);
        free(data);
        fclose(f);
        return 1;
    }
    fclose(f);
    files[file_count++] = (seed_file){data, (size_t)size};
    return 0;
}

static int by_name(const struct dirent **a, const struct dirent **b) { return strcmp((*a)->d_name, (*b)->d_name); }

static int read_path(const char *path)
{
    struct stat st;
    if (stat(path, &st)) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        return 1;
    }
    if (!S_ISDIR(st.st_mode)) return read_file(path);
    struct dirent **names = NULL;
    int n = scandir(path, &names, NULL, by_name), bad = n < 0;
    for (int i = 0; i < n; i++) {
        char child[4096];
        if (names[i]->d_name[0] != '.') {
            int len = snprintf(child, sizeof child, "%s/%s", path, names[i]->d_name);
            bad |= len < 0 || (size_t)len >= sizeof child || read_file(child);
        }
        free(names[i]);
    }
    free(names);
    return bad;
}

/* One small change: flip a bit, set a telling byte, cut, repeat or insert a run, splice in another file's piece. */
static size_t mutate_once(uint8_t *buf, size_t size, uint64_t *state)
{
    static const uint8_t telling[] = {0x00, 0x01, 0x7f, 0x80, 0xff, '"', '{', '}', '[', ']', '\\', ':', '\n', ' ', '0'};
    uint64_t r = next_random(state), at = size ? next_random(state) % size : 0;
    size_t run = 1 + next_random(state) % 16, room = SIZE_MAX_GROWN - size;
    switch (r % 7) {
    case 0:
        if (size) buf[at] ^= (uint8_t)(1u << (r >> 8) % 8);
        return size;
    case 1:
        if (size) buf[at] = telling[(r >> 8) % sizeof telling];
        return size;
    case 2:
        if (size) buf[at] = (uint8_t)(r >> 8);
        return size;
    case 3: /* a piece goes */
        if (run > size - at) run = size - at;
        memmove(buf + at, buf + at + run, size - at - run);
        return size - run;
    case 4: /* the end goes */ return at;
    case 5: /* a run of one byte comes in */
        if (run > room) return size;
        memmove(buf + at + run, buf + at, size - at);
        memset(buf + at, telling[(r >> 8) % sizeof telling], run);
        return size + run;
    default: { /* a piece of any file comes in */
        const seed_file *other = &files[(r >> 8) % file_count];
        if (!other->size) return size;
        size_t from = next_random(state) % other->size, n = 1 + next_random(state) % 256;
        if (n > other->size - from) n = other->size - from;
        if (n > room) return size;
        memmove(buf + at + n, buf + at, size - at);
        memcpy(buf + at, other->data + from, n);
        return size + n;
    }
    }
}

static void run_mutations(uint64_t count, uint64_t seed)
{
    static uint8_t buf[SIZE_MAX_GROWN];
    int trace = getenv("COUPLET_FUZZ_TRACE") != NULL;
    for (uint64_t i = 0; i < count; i++) {
        uint64_t state = seed * 0x2545f4914f6cdd1du + i;
        const seed_file *f = &files[next_random(&state) % file_count];
        size_t size = f->size < SIZE_MAX_GROWN ? f->size : SIZE_MAX_GROWN;
        memcpy(buf, f->data, size);
        if (trace) fprintf(stderr, "mutation %" PRIu64 "\n", i);
        for (uint64_t k = 1 + next_random(&state) % 4; k > 0; k--) size = mutate_once(buf, size, &state);
        run_copy(buf, size);
    }
}

int main(int argc, char **argv)
{
    uint64_t count = MUTATIONS_DEFAULT, seed = 1;
    int bad = 0;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--mutations") == 0 && i + 1 < argc)
            count = strtoull(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc)
            seed = strtoull(argv[++i], NULL, 10);
        else
            bad |= read_path(argv[i]);
    }
    if (bad || file_count == 0) {
        fprintf(stderr, "%s: no corpus to replay\n", argv[0]);
        return 2;
    }
    run_copy((const uint8_t *)"", 0);
    for (size_t i = 0; i < file_count; i++) run_copy(files[i].data, files[i].size);
    printf("%zu files; %" PRIu64 " mutations, seed %" PRIu64 "\n", file_count, count, seed);
    fflush(stdout);
    run_mutations(count, seed);
    for (size_t i = 0; i < file_count; i++) free(files[i].data);
    return 0;
}
