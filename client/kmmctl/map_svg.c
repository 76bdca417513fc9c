/* SPDX-License-Identifier: MIT */
/*
 * The map as an SVG file that needs nothing else: one rect a pageblock, with what it is as the
 * tooltip (<title>), headings, addresses, a legend.
 *
 * Colours are classes of a style sheet, because they depend on the ground that the picture is shown
 * on: "h2 l7" is hue 2 at level 7, defined once for light and once more within
 * @media (prefers-color-scheme: dark). Only classes that occur are defined.
 *
 *      title                                          LEFT  width of a row: columns * STEP
 *      Node 0, zone Normal: …                            |<------------------------->|
 *      0x00000000  [][][][][][][][][][]
 *      [] legend   [] legend
 */
#include "client/kmmctl/map.h"
#include "client/kmmctl/table.h"

#include <inttypes.h>
#include <string.h>

#define LEFT 112u
#define MARGIN 24u
#define CELL 14u
#define STEP 16u
#define HEADING 34u /* height, with the space above */
#define LEGEND_STEP 22u
#define LEGEND_CHARACTER 8u /* width of one, on the safe side */
#define COLUMNS 32u
#define COLUMNS_MAX 256u

struct picture {
	FILE *out;
	const struct map_view *v;
	size_t columns;
	unsigned int width, y;
	unsigned int across, legend_width; /* the legend: entries side by side, of one */
	bool used[MAP_HUES][MAP_LEVELS];
};

static void print_escaped(FILE *out, const char *text)
{
	for (; *text; text++) {
		switch (*text) {
		case '&':
			fputs("&amp;", out);
			break;
		case '<':
			fputs("&lt;", out);
			break;
		case '>':
			fputs("&gt;", out);
			break;
		case '"':
			fputs("&quot;", out);
			break;
		default:
			fputc(*text, out);
		}
	}
}

static unsigned int rows_of(const struct picture *p, const struct map_group *g)
{
	return (unsigned int)((g->first + g->n - 1) / p->columns - g->first / p->columns + 1);
}

/* ---- the frame ---- */

/* Wider for large pools, so that the picture does not become a ribbon. */
static size_t columns_for(size_t n)
{
	size_t columns = COLUMNS;

	while (columns < COLUMNS_MAX && columns * columns < n)
		columns *= 2;
	return columns;
}

/* How the legend is laid out, the rows that it takes, and which classes it uses. */
static unsigned int legend_rows(struct picture *p)
{
	char text[MAP_LEGEND_SIZE];
	struct map_look look;
	size_t n = 0, longest = 0;

	for (; map_legend(p->v, n, &look, text); n++) {
		p->used[look.hue][look.level] = true;
		if (strlen(text) > longest)
			longest = strlen(text);
	}
	p->legend_width = CELL + 24 + (unsigned int)longest * LEGEND_CHARACTER;
	p->across = (p->width - 2 * MARGIN) / p->legend_width;
	if (p->across == 0)
		p->across = 1;
	return (unsigned int)((n + p->across - 1) / p->across);
}

static unsigned int height_of(struct picture *p)
{
	const struct map *m = p->v->map;
	unsigned int height = MARGIN + 44 + MARGIN;
	struct map_group g;

	for (size_t i = 0; i < m->n; i += g.n) {
		map_group_at(m, i, &g);
		height += HEADING + rows_of(p, &g) * STEP;
	}
	return height + 28 + legend_rows(p) * LEGEND_STEP;
}

static void print_colours(const struct picture *p, bool dark)
{
	for (unsigned int h = 0; h < MAP_HUES; h++) {
		for (unsigned int l = 0; l < MAP_LEVELS; l++) {
			struct map_look look = { .hue = (uint8_t)h, .level = (uint8_t)l };
			struct map_colour c;

			if (!p->used[h][l])
				continue;
			c = map_colour(&look, dark);
			fprintf(p->out, ".h%u.l%u{fill:#%02x%02x%02x}\n", h, l, c.red, c.green,
			        c.blue);
		}
	}
}

static void print_style(const struct picture *p)
{
	fputs("<style>\n"
	      "text{font-family:system-ui,\"DejaVu Sans\",sans-serif;font-size:13px;fill:#24292f}\n"
	      ".title{font-size:18px;font-weight:600}\n"
	      ".quiet{fill:#57606a}\n"
	      ".address{font-family:ui-monospace,\"DejaVu Sans Mono\",monospace;font-size:11px;"
	      "fill:#57606a;text-anchor:end}\n"
	      ".ground{fill:#ffffff}\n"
	      ".cell{stroke:#8c959f;stroke-width:0.5}\n", p->out);
	print_colours(p, false);
	fputs("@media (prefers-color-scheme: dark){\n"
	      "text{fill:#e6edf3}\n"
	      ".quiet,.address{fill:#9da7b3}\n"
	      ".ground{fill:#0d1117}\n"
	      ".cell{stroke:#3d444d}\n", p->out);
	print_colours(p, true);
	fputs("}\n</style>\n", p->out);
}

static void print_title(struct picture *p)
{
	const struct map *m = p->v->map;
	uint64_t managed = 0, free_frames = 0;
	char pool[TABLE_UNIT_SIZE], left[TABLE_UNIT_SIZE];

	for (size_t i = 0; i < m->n; i++) {
		if (m->cell[i].state != kmm_v1_Page_State_BLOCK)
			continue;
		managed += MAP_BLOCK_FRAMES;
		free_frames += m->cell[i].free + m->cell[i].per_cpu;
	}
	fprintf(p->out,
	        "<text class=\"title\" x=\"%u\" y=\"%u\">kmmd pool of %s by %s</text>\n", MARGIN,
	        MARGIN + 16, table_frames(pool, (uint64_t)m->n * MAP_BLOCK_FRAMES),
	        map_by_names[p->v->by]);
	fprintf(p->out,
	        "<text class=\"quiet\" x=\"%u\" y=\"%u\">%s in zones, %s of it free; a square is a "
	        "pageblock of 2M</text>\n", MARGIN, MARGIN + 38, table_frames(pool, managed),
	        table_frames(left, free_frames));
	p->y = MARGIN + 44;
}

/* ---- cells ---- */

static void print_square(const struct picture *p, const struct map_look *look, unsigned int x,
                         unsigned int y)
{
	fprintf(p->out, "<rect class=\"cell h%u l%u\" x=\"%u\" y=\"%u\" width=\"%u\" height=\"%u\"",
	        look->hue, look->level, x, y, CELL, CELL);
}

static void print_group(struct picture *p, const struct map_group *g)
{
	const struct map *m = p->v->map;
	char heading[MAP_HEADING_SIZE], text[MAP_TEXT_SIZE];
	size_t top = g->first / p->columns;

	fprintf(p->out, "<g class=\"group\">\n<text x=\"%u\" y=\"%u\">", MARGIN, p->y + HEADING - 10);
	print_escaped(p->out, map_heading(heading, m, g));
	fputs("</text>\n", p->out);
	p->y += HEADING;
	for (size_t i = g->first; i < g->first + g->n; i++) {
		struct map_look look = map_look(p->v, i, 1);
		unsigned int x = LEFT + (unsigned int)(i % p->columns) * STEP;
		unsigned int y = p->y + (unsigned int)(i / p->columns - top) * STEP;

		if (i == g->first || i % p->columns == 0)
			fprintf(p->out, "<text class=\"address\" x=\"%u\" y=\"%u\">0x%010" PRIx64
			        "</text>\n", LEFT - 8, y + 11,
			        (uint64_t)i * MAP_BLOCK_FRAMES * 4096);
		print_square(p, &look, x, y);
		fputs("><title>", p->out);
		print_escaped(p->out, map_text(text, m, i));
		fputs("</title></rect>\n", p->out);
	}
	fputs("</g>\n", p->out);
	p->y += rows_of(p, g) * STEP;
}

static void print_legend(struct picture *p)
{
	char text[MAP_LEGEND_SIZE];
	struct map_look look;

	p->y += 28;
	fputs("<g class=\"legend\">\n", p->out);
	for (unsigned int i = 0; map_legend(p->v, i, &look, text); i++) {
		unsigned int x = MARGIN + i % p->across * p->legend_width;
		unsigned int y = p->y + i / p->across * LEGEND_STEP;

		print_square(p, &look, x, y);
		fprintf(p->out, "/>\n<text x=\"%u\" y=\"%u\">", x + CELL + 8, y + 12);
		print_escaped(p->out, text);
		fputs("</text>\n", p->out);
	}
	fputs("</g>\n", p->out);
}

void map_svg(FILE *out, const struct map_view *v)
{
	struct map_view squares = *v;
	struct picture p = { .out = out, .v = &squares, .columns = columns_for(v->map->n) };
	struct map_group g;
	unsigned int height;

	squares.letterless = true;
	p.width = LEFT + (unsigned int)p.columns * STEP + MARGIN;
	for (size_t i = 0; i < v->map->n; i++) {
		struct map_look look = map_look(v, i, 1);

		p.used[look.hue][look.level] = true;
	}
	height = height_of(&p);
	fprintf(out,
	        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
	        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %u %u\" width=\"%u\" "
	        "height=\"%u\">\n<title>kmmd pool by %s</title>\n", p.width, height, p.width,
	        height, map_by_names[v->by]);
	print_style(&p);
	fprintf(out, "<rect class=\"ground\" width=\"%u\" height=\"%u\"/>\n", p.width, height);
	print_title(&p);
	for (size_t i = 0; i < v->map->n; i += g.n) {
		map_group_at(v->map, i, &g);
		print_group(&p, &g);
	}
	print_legend(&p);
	fputs("</svg>\n", out);
}
