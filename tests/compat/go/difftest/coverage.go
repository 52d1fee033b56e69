package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// coverage counts how often each cell was hit.
type coverage struct {
	wanted []cell
	hits   map[cell]int
	goal   int // hits after which a cell is no longer aimed at
	rows   map[string]int
}

func newCoverage(goal int) *coverage {
	return &coverage{wanted: cells(), hits: map[cell]int{}, goal: goal, rows: map[string]int{}}
}

func (c *coverage) count(kind, row string, options []string) {
	c.rows[kind+" "+row]++
	for _, option := range options {
		c.hits[cell{kind, option, row}]++
	}
}

// least picks one of the cells that are furthest from the goal. A cell that many tries did not
// hit is left alone for the rest of the round.
func (c *coverage) least(g *generator) (cell, bool) {
	best, low := []cell(nil), c.goal
	for _, w := range c.wanted {
		score := max(c.hits[w], g.tries[w]/3)
		if score > low || c.hits[w] >= c.goal || g.tries[w] > 6*c.goal {
			continue
		}
		if score < low {
			best, low = best[:0], score
		}
		best = append(best, w)
	}
	if len(best) == 0 {
		return cell{}, false
	}
	return pick(g, best), true
}

func (c *coverage) merge(other *coverage) {
	for k, n := range other.hits {
		c.hits[k] += n
	}
	for k, n := range other.rows {
		c.rows[k] += n
	}
}

// below lists the wanted cells with fewer hits than asked for.
func (c *coverage) below(least int) []cell {
	var out []cell
	for _, w := range c.wanted {
		if c.hits[w] < least {
			out = append(out, w)
		}
	}
	return out
}

func (c *coverage) print(w io.Writer, least int) {
	fmt.Fprintf(w, "coverage: %d cells of RPC x option x answer, wanted at least %d times each\n", len(c.wanted), least)
	type line struct{ kind, row string }
	lines := map[line][]string{}
	var order []line
	for _, x := range c.wanted {
		at := line{x.kind, x.row}
		if lines[at] == nil {
			order = append(order, at)
		}
		lines[at] = append(lines[at], fmt.Sprintf("%s=%d", x.option, c.hits[x]))
	}
	for _, at := range order {
		fmt.Fprintf(w, "  %s -> %s (%d)\n    %s\n", at.kind, at.row, c.rows[at.kind+" "+at.row], strings.Join(lines[at], " "))
	}
	known := map[string]bool{}
	for _, x := range c.wanted {
		known[x.kind+" "+x.row] = true
	}
	for _, name := range slices.Sorted(maps.Keys(c.rows)) {
		if !known[name] {
			fmt.Fprintf(w, "  besides: %s (%d)\n", name, c.rows[name])
		}
	}
}
