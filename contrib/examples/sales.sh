#!/bin/sh
# SPDX-License-Identifier: MIT
#
# sales.sh [LINES]: a CSV file to try the pipeline with: date,shop,article,quantity,cents,note.
#
# Always the same for the same number of lines. Now and then a line is irregular, as in life: it lacks
# columns, is empty, or has a note of up to some thousand bytes.
LC_ALL=C exec awk -v lines="${1:-400000}" '
function random(n) {
	seed = seed * 16807 % 2147483647 # exact in a double
	return seed % n
}
BEGIN {
	seed = 1
	shops = split("Lisbon Oslo Vienna Porto Bergen Graz Faro Narvik Linz Evora", shop, " ")
	articles = split("tea coffee cocoa sugar salt flour rice beans lentils honey", article, " ")
	for (word = "a note that goes on "; length(word) < 4000; )
		word = word word
	print "date,shop,article,quantity,cents,note"
	for (i = 1; i < lines; i++) {
		line = sprintf("2026-%02d-%02d,%s,%s", 1 + random(12), 1 + random(28),
		               shop[1 + random(shops)], article[1 + random(articles)])
		kind = random(1000)
		if (kind == 0)
			line = ""
		else if (kind > 9)
			line = line sprintf(",%d,%d,", 1 + random(9), 5 * random(400))
		if (kind > 990)
			line = line substr(word, 1, random(4000))
		print line
	}
}'
