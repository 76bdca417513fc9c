/* SPDX-License-Identifier: MIT */
/*
 * Runs a fuzz target over saved inputs, as an ordinary test: the files given, or those of the
 * target's folder in $KMM_SRCDIR/tests/fuzz (FUZZ_CORPUS). Each input is also cut short at every
 * length up to FUZZ_CUTS bytes, so that reading behind its end shows under the sanitizers.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#ifndef FUZZ_CORPUS
#define FUZZ_CORPUS "corpus"
#endif

#define INPUT_MAX (1u << 20)
#ifndef FUZZ_CUTS
#define FUZZ_CUTS 256u
#endif

/* In memory of its very size, where a sanitizer guards both ends. */
static void replay(const uint8_t *data, size_t size)
{
	uint8_t *copy = malloc(size ? size : 1);

	if (!copy)
		abort();
	memcpy(copy, data, size);
	LLVMFuzzerTestOneInput(copy, size);
	free(copy);
}

static int replay_file(const char *path)
{
	static uint8_t data[INPUT_MAX];
	FILE *f = fopen(path, "rb");
	size_t n;

	if (!f) {
		perror(path);
		return -1;
	}
	n = fread(data, 1, sizeof(data), f);
	fclose(f);
	for (size_t cut = 0; cut < n && cut < FUZZ_CUTS; cut++)
		replay(data, cut);
	replay(data, n);
	return 0;
}

static int replay_folder(const char *path)
{
	DIR *d = opendir(path);
	struct dirent *e;
	char name[8192];
	int n = 0;

	if (!d) {
		perror(path);
		return -1;
	}
	while ((e = readdir(d))) {
		if (e->d_name[0] == '.')
			continue;
		snprintf(name, sizeof(name), "%s/%s", path, e->d_name);
		if (replay_file(name) < 0) {
			closedir(d);
			return -1;
		}
		n++;
	}
	closedir(d);
	return n;
}

int main(int argc, char *argv[])
{
	const char *source = getenv("KMM_SRCDIR");
	char path[4096];
	int n;

	for (int i = 1; i < argc; i++)
		if (replay_file(argv[i]) < 0)
			return EXIT_FAILURE;
	if (argc > 1)
		return EXIT_SUCCESS;
	snprintf(path, sizeof(path), "%s/tests/fuzz/" FUZZ_CORPUS, source ? source : ".");
	n = replay_folder(path);
	if (n <= 0) {
		fprintf(stderr, "%s: no inputs\n", path);
		return EXIT_FAILURE;
	}
	printf("%d inputs replayed\n", n);
	return EXIT_SUCCESS;
}
