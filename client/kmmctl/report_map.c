/* SPDX-License-Identifier: MIT */
/*
 * The map on a terminal: rows of letters, a heading for each zone, addresses to the left, the legend
 * below.
 *
 *     pool of 64M, a cell is 2M, by fullness
 *
 *     Node 0, zone DMA: 16M, 12M free, 0 cached by threads and depots
 *     0x00000000 #3......
 *
 * A row has a power of two of cells and begins at a multiple of what it covers, so that columns stand
 * for the same address bits in every row; a zone that begins in the middle is indented. The address is
 * that of the first cell shown. When the whole does not fit the screen, a cell stands for 2, 4, 8 …
 * pageblocks.
 */
#include "client/kmmctl/map.h"
#include "client/kmmctl/table.h"

#include <inttypes.h>
#include <string.h>

#define ADDRESS_WIDTH 13u /* "0x0000000000 " */
#define COLUMNS_MIN 16u
#define RESET "\033[0m"

struct layout {
	size_t columns; /* cells of a row */
	size_t blocks;  /* pageblocks of a cell */
};

static size_t rows_of(const struct map_group *g, const struct layout *l)
{
	size_t row = l->columns * l->blocks;

	return (g->first + g->n - 1) / row - g->first / row + 1;
}

/* Lines with headings and the empty line before each. */
static size_t lines_of(const struct map *m, const struct layout *l)
{
	struct map_group g;
	size_t lines = 0;

	for (size_t i = 0; i < m->n; i += g.n) {
		map_group_at(m, i, &g);
		lines += 2 + rows_of(&g, l);
	}
	return lines;
}

static struct layout layout(const struct map_view *v, const struct map_screen *screen,
                            size_t legend)
{
	struct layout l = { .columns = COLUMNS_MIN, .blocks = 1 };
	size_t room = screen->lines > legend + 4 ? screen->lines - legend - 4 : 1;

	while (l.columns * 2 + ADDRESS_WIDTH <= screen->columns)
		l.columns *= 2;
	while (l.blocks < v->map->n && lines_of(v->map, &l) > room)
		l.blocks *= 2;
	return l;
}

/* ---- colours ---- */

static unsigned int distance(struct map_colour a, const uint8_t b[3])
{
	int red = a.red - b[0], green = a.green - b[1], blue = a.blue - b[2];

	return (unsigned int)(red * red + green * green + blue * blue);
}

/* The nearest of the terminal's 256 colours: 16 to 231 are a 6x6x6 cube, 232 to 255 greys. */
static unsigned int nearest(struct map_colour c)
{
	static const uint8_t step[6] = { 0, 95, 135, 175, 215, 255 };
	const uint8_t part[3] = { c.red, c.green, c.blue };
	unsigned int cube = 0, grey = (c.red + c.green + c.blue) / 3u;
	uint8_t of_cube[3], of_grey[3];

	for (int i = 0; i < 3; i++) {
		unsigned int k = 0;

		while (k < 5 && part[i] > (step[k] + step[k + 1]) / 2)
			k++;
		cube = cube * 6 + k;
		of_cube[i] = step[k];
	}
	grey = grey < 8 ? 0 : grey > 238 ? 23 : (grey - 3) / 10;
	memset(of_grey, (int)(8 + grey * 10), sizeof(of_grey));
	return distance(c, of_grey) < distance(c, of_cube) ? 232 + grey : 16 + cube;
}

/* The letter on its colour, as one sees it on dark ground. */
static void print_look(FILE *out, const struct map_look *look, bool colour)
{
	struct map_colour c;
	unsigned int light;

	if (!colour || (look->letter == ' ' && look->level == 0)) {
		fputc(look->letter, out);
		return;
	}
	c = map_colour(look, true);
	light = (c.red * 299u + c.green * 587u + c.blue * 114u) / 1000;
	fprintf(out, "\033[48;5;%u;38;5;%um%c", nearest(c), light > 110 ? 16u : 252u, look->letter);
}

/* ---- the picture ---- */

static void print_row(FILE *out, const struct map_view *v, const struct map_group *g,
                      const struct layout *l, bool colour, size_t row)
{
	size_t first = row * l->columns * l->blocks, end = g->first + g->n;

	fprintf(out, "0x%010" PRIx64 " ",
	        (uint64_t)(first < g->first ? g->first : first) * MAP_BLOCK_FRAMES * 4096);
	for (size_t k = 0; k < l->columns; k++) {
		size_t from = first + k * l->blocks, to = from + l->blocks;
		struct map_look look;

		if (from < g->first)
			from = g->first;
		if (to > end)
			to = end;
		if (from >= end)
			break;
		if (from >= to) {
			fputc(' ', out); /* before the group's first */
			continue;
		}
		look = map_look(v, from, to - from);
		print_look(out, &look, colour);
		if (colour)
			fputs(RESET, out);
	}
	fputc('\n', out);
}

static void print_group(FILE *out, const struct map_view *v, const struct map_group *g,
                        const struct layout *l, bool colour)
{
	size_t row = g->first / (l->columns * l->blocks), n = rows_of(g, l);
	char heading[MAP_HEADING_SIZE];

	fprintf(out, "\n%s\n", map_heading(heading, v->map, g));
	for (; n-- > 0; row++)
		print_row(out, v, g, l, colour, row);
}

static void print_legend(FILE *out, const struct map_view *v, bool colour)
{
	char text[MAP_LEGEND_SIZE];
	struct map_look look;

	fputc('\n', out);
	for (size_t i = 0; map_legend(v, i, &look, text); i++) {
		if (!colour && look.letter == ' ')
			continue; /* it explains a colour */
		fputs("  ", out);
		print_look(out, &look, colour);
		fprintf(out, "%s %s\n", colour ? RESET : "", text);
	}
}

static size_t legend_lines(const struct map_view *v)
{
	char text[MAP_LEGEND_SIZE];
	struct map_look look;
	size_t i = 0;

	while (map_legend(v, i, &look, text))
		i++;
	return i;
}

void report_map(FILE *out, const struct map_view *v, const struct map_screen *screen)
{
	struct layout l = layout(v, screen, legend_lines(v));
	char pool[TABLE_UNIT_SIZE], cell[TABLE_UNIT_SIZE];
	struct map_group g;

	fprintf(out, "pool of %s, a cell is %s, by %s\n",
	        table_frames(pool, (uint64_t)v->map->n * MAP_BLOCK_FRAMES),
	        table_frames(cell, (uint64_t)l.blocks * MAP_BLOCK_FRAMES), map_by_names[v->by]);
	for (size_t i = 0; i < v->map->n; i += g.n) {
		map_group_at(v->map, i, &g);
		print_group(out, v, &g, &l, screen->colour);
	}
	print_legend(out, v, screen->colour);
}
