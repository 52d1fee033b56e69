// Program difftest drives two servers of the etcd API with the same seeded random steps and
// compares every field, status code and message of what they answer.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

var (
	flagA           = flag.String("a", "", "endpoint of the oracle, host:port (instead of -a-cmd; no rounds, no shrinking)")
	flagB           = flag.String("b", "", "endpoint of the server under test")
	flagACommand    = flag.String("a-cmd", "", "command that starts the oracle; {dir} {client} {peer} {advertise} are filled in")
	flagBCommand    = flag.String("b-cmd", "", "command that starts the server under test")
	flagSeed        = flag.Int64("seed", 1, "first seed; each round takes the next one")
	flagOps         = flag.Int("ops", 20_000, "steps in all")
	flagRound       = flag.Int("round", 2_000, "steps between fresh starts")
	flagCoverage    = flag.Int("coverage", 0, "fail when a cell of the coverage table was hit fewer times")
	flagAim         = flag.Int("aim", 3, "in each round, aim at a cell until it was hit this often")
	flagTable       = flag.Bool("table", false, "print the whole coverage table")
	flagDifferences = flag.String("differences", "tests/compat/differences.md", "differences on purpose")
	flagShrink      = flag.Duration("shrink", 3*time.Minute, "time for making a failing case smaller")
	flagGoOn        = flag.Int("go-on", 0, "go on after differences until this many different ones were seen; prints them instead of shrinking")
	flagReplay      = flag.String("replay", "", "run the steps of this file instead of random ones")
	flagSave        = flag.String("save", "", "where to write the steps of a minimal case (default: a new file in the system's temporary folder)")
	flagVerbose     = flag.Bool("v", false, "print every step")
)

func fatal(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "difftest: "+format+"\n", args...)
	os.Exit(2)
}

// bench starts pairs of fresh servers.
type bench struct{ running []*server }

func (b *bench) pair() (*pair, error) {
	b.stop()
	if *flagA != "" {
		return newPair(&server{name: "a", endpoint: *flagA}, &server{name: "b", endpoint: *flagB}, *flagDifferences)
	}
	for _, s := range []struct{ name, command string }{{"a", *flagACommand}, {"b", *flagBCommand}} {
		started, err := startServer(s.name, s.command)
		if err != nil {
			return nil, err
		}
		b.running = append(b.running, started)
	}
	return newPair(b.running[0], b.running[1], *flagDifferences)
}

func (b *bench) stop() {
	for _, s := range b.running {
		s.stop()
	}
	b.running = nil
}

// failure is the first difference of a list of steps.
type failure struct {
	ops   []Op // up to and including the one that went wrong
	diffs []diff
	last  lastStep
	kind  string
}

func (f *failure) signature() string { return signature(f.kind, f.diffs) }

// play runs given steps on fresh servers.
func (b *bench) play(ops []Op) (*failure, error) {
	p, err := b.pair()
	if err != nil {
		return nil, err
	}
	defer p.close()
	for i := range ops {
		if diffs := p.run(&ops[i]); len(diffs) > 0 {
			return &failure{ops: ops[:i+1], diffs: diffs, last: p.last, kind: ops[i].Kind}, nil
		}
	}
	return nil, nil
}

type seen struct {
	signatures map[string]int
	used       map[string]int
	spent      map[string]time.Duration
}

// round makes up to n steps from one seed.
func (b *bench) round(seed int64, n int, total *coverage, others *seen) (*failure, int, error) {
	p, err := b.pair()
	if err != nil {
		return nil, 0, err
	}
	defer p.close()
	table := newCoverage(*flagAim)
	g := newGenerator(seed, p, table)
	g.pending = opening(g)
	closing := []Op{{Kind: kindSettle},
		newOp(kindRange, &pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}}),
		newOp(kindRange, &pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}, Revision: symbolCompact}),
		newOp(kindHashKV, &pb.HashKVRequest{}),
		newOp(kindLeases, &pb.LeaseLeasesRequest{}),
		{Kind: kindWatchClose, Stream: 0}, {Kind: kindWatchClose, Stream: 1}, {Kind: kindWatchClose, Stream: 2}}
	var done []Op
	defer func() {
		total.merge(table)
		for _, r := range p.rules {
			others.used[r.id] += r.used
		}
	}()
	for len(done) < n {
		var op Op
		if left := n - len(done); left <= len(closing) {
			op = closing[len(closing)-left]
		} else if op = g.next(); p.rules.skips(skipName(&op), skipOptions(&op, p)) {
			done = append(done, Op{Kind: kindSettle})
			continue
		}
		done = append(done, op)
		if *flagVerbose {
			fmt.Printf("%6d %s\n", len(done), op.String())
		}
		before := time.Now()
		diffs := p.run(&op)
		others.spent[skipName(&op)+" "+p.last.row] += time.Since(before)
		if *flagVerbose {
			fmt.Printf("       %s\n", p.last.a)
		}
		if p.last.row != "" {
			table.count(skipName(&op), p.last.row, p.last.options)
		}
		if len(diffs) == 0 {
			continue
		}
		found := &failure{ops: done, diffs: diffs, last: p.last, kind: op.Kind}
		if *flagGoOn == 0 {
			return found, len(done), nil
		}
		if others.signatures[found.signature()]++; others.signatures[found.signature()] == 1 {
			fmt.Printf("difference %d, seed %d step %d:\n%s\n", len(others.signatures), seed, len(done), found.describe())
		}
		if len(others.signatures) >= *flagGoOn || !p.a.alive() || !p.b.alive() || diverged(diffs) {
			return nil, len(done), nil // the rest of this round would only be noise
		}
	}
	return nil, len(done), nil
}

// diverged tells that the two stores no longer hold the same: all that follows would differ.
func diverged(diffs []diff) bool {
	for _, d := range diffs {
		if strings.HasPrefix(d.field, "history") || strings.HasSuffix(d.field, "header.revision") || d.field == "code" && (d.a == "OK" || d.b == "OK") {
			return true
		}
	}
	return false
}

// skipName is the RPC a step calls.
func skipName(op *Op) string {
	if op.Kind == kindRaw {
		kind, _ := rawKind(op.Method)
		return kind
	}
	return op.Kind
}

func skipOptions(op *Op, p *pair) []string {
	if op.Kind == kindRaw {
		return rawOptions(op)
	}
	m := op.request()
	if m == nil {
		return nil
	}
	out := optionsOf(op.Kind, m, p)
	if t, ok := m.(*pb.TxnRequest); ok {
		out = append(out, nestedSortOptions(t)...)
	}
	return out
}

// opening steps look at a store in which nothing has happened yet.
func opening(g *generator) []Op {
	all := func(revision int64) Op {
		return newOp(kindRange, &pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}, Revision: revision})
	}
	compact := func(revision int64) Op { return newOp(kindCompact, &pb.CompactionRequest{Revision: revision}) }
	ops := []Op{all(0), all(1), all(2), newOp(kindHashKV, &pb.HashKVRequest{}), newOp(kindHashKV, &pb.HashKVRequest{Revision: 1}),
		newOp(kindHashKV, &pb.HashKVRequest{Revision: 2}), compact(-1), compact(2)}
	switch g.Intn(4) {
	case 0:
		ops = append(ops, compact(0), compact(0), newOp(kindHashKV, &pb.HashKVRequest{}), all(1))
	case 1:
		ops = append(ops, compact(1), compact(1), compact(0), newOp(kindHashKV, &pb.HashKVRequest{}), all(1))
	case 2:
		ops = append(ops, compact(0), compact(1), newOp(kindHashKV, &pb.HashKVRequest{Revision: 1}))
	}
	for range 12 {
		ops = append(ops, newOp(kindPut, &pb.PutRequest{Key: g.key(), Value: g.value()}))
	}
	for range 4 {
		ops = append(ops, newOp(kindLeaseGrant, &pb.LeaseGrantRequest{ID: g.Int63n(8) + 1, TTL: pick(g, leaseTTLs)}))
	}
	return append(ops, g.bulkPut(), compact(symbolCurrent-3))
}

func (f *failure) describe() string {
	var b strings.Builder
	fmt.Fprintf(&b, "  step:    %s\n", f.ops[len(f.ops)-1].String())
	if f.last.request != nil {
		fmt.Fprintf(&b, "  request: %s\n", dump(f.last.request.ProtoReflect()))
	}
	if f.last.a.message != nil || f.last.a.err != nil {
		fmt.Fprintf(&b, "  oracle:  %s\n  tested:  %s\n", f.last.a, f.last.b)
	}
	fmt.Fprintf(&b, "  field: oracle | tested\n%s", diffText(f.diffs))
	return b.String()
}

// shrink takes steps away for as long as the same difference stays.
func (b *bench) shrink(f *failure, limit time.Duration) *failure {
	until := time.Now().Add(limit)
	want := f.signature()
	try := func(ops []Op) *failure {
		got, err := b.play(ops)
		if err != nil || got == nil || got.signature() != want {
			return nil
		}
		return got
	}
	again := try(f.ops)
	if again == nil {
		fmt.Println("the same steps did not show the difference again: a matter of timing")
		return f
	}
	best := again
	// Most differences need little of what went before.
	for tail := 1; tail < len(best.ops)/2; tail *= 4 {
		if got := try(append([]Op(nil), best.ops[len(best.ops)-tail:]...)); got != nil {
			best = got
			break
		}
	}
	for size := max(len(best.ops)/2, 1); time.Now().Before(until); {
		shorter := false
		for from := max(len(best.ops)-1-size, 0); time.Now().Before(until); from -= size {
			from = max(from, 0)
			end := min(from+size, len(best.ops)-1)
			if end > from {
				candidate := append(append([]Op(nil), best.ops[:from]...), best.ops[end:]...)
				if got := try(candidate); got != nil {
					best, shorter = got, true
				}
			}
			if from == 0 {
				break
			}
		}
		if size == 1 && !shorter {
			break
		}
		if size > 1 {
			size = max(min(size/2, len(best.ops)/2), 1)
		}
	}
	return best
}

func save(ops []Op) string {
	path := *flagSave
	if path == "" {
		path = filepath.Join(os.TempDir(), fmt.Sprintf("difftest-%d.json", os.Getpid()))
	}
	data, err := json.MarshalIndent(ops, "", " ")
	if err != nil {
		fatal("%v", err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		fatal("%v", err)
	}
	return path
}

func main() {
	// Children are told to die with the thread that started them, so it must be the main one.
	runtime.LockOSThread()
	flag.Parse()
	if (*flagA == "") != (*flagB == "") || (*flagACommand == "") != (*flagBCommand == "") || (*flagA == "") == (*flagACommand == "") {
		fatal("give -a and -b, or -a-cmd and -b-cmd")
	}
	b := &bench{}
	code := run(b)
	b.stop()
	os.Exit(code)
}

func report(b *bench, f *failure, seed int64) {
	fmt.Printf("difference with seed %d at step %d (again with -seed %d -ops %d -round %d -aim %d):\n%s\n",
		seed, len(f.ops), seed, *flagRound, *flagRound, *flagAim, f.describe())
	if *flagACommand != "" && *flagShrink > 0 {
		f = b.shrink(f, *flagShrink)
		fmt.Printf("minimal case, %d steps (seed %d):\n", len(f.ops), seed)
		for i := range f.ops {
			fmt.Printf("  %d. %s\n", i+1, f.ops[i].String())
		}
		fmt.Print(f.describe())
	}
	fmt.Printf("steps saved: run again with -replay %s\n", save(f.ops))
}

func run(b *bench) int {
	start := time.Now()
	if *flagReplay != "" {
		data, err := os.ReadFile(*flagReplay)
		if err != nil {
			fatal("%v", err)
		}
		var ops []Op
		if err := json.Unmarshal(data, &ops); err != nil {
			fatal("%v", err)
		}
		f, err := b.play(ops)
		if err != nil {
			fatal("%v", err)
		}
		if f != nil {
			fmt.Print(f.describe())
			return 1
		}
		fmt.Printf("%d steps, no difference\n", len(ops))
		return 0
	}
	size := *flagRound
	if *flagA != "" {
		size = *flagOps
	}
	size = min(size, *flagOps)
	total := newCoverage(*flagAim)
	others := &seen{map[string]int{}, map[string]int{}, map[string]time.Duration{}}
	done := 0
	for seed := *flagSeed; done < *flagOps; seed++ {
		f, n, err := b.round(seed, min(size, *flagOps-done), total, others)
		if err != nil {
			fatal("%v", err)
		}
		done += n
		if f != nil {
			report(b, f, seed)
			return 1
		}
		if *flagGoOn > 0 && len(others.signatures) >= *flagGoOn {
			break
		}
	}
	if *flagTable {
		total.print(os.Stdout, *flagCoverage)
		for _, name := range slices.Sorted(maps.Keys(others.spent)) {
			fmt.Printf("time: %-40s %6d times %8.3f s\n", name, total.rows[name], others.spent[name].Seconds())
		}
	}
	for id, n := range others.used {
		if n > 0 {
			fmt.Printf("difference on purpose %s: %d times\n", id, n)
		}
	}
	fmt.Printf("%d steps from seed %d in %.1f s, %d differences\n", done, *flagSeed, time.Since(start).Seconds(), len(others.signatures))
	if len(others.signatures) > 0 {
		return 1
	}
	if low := total.below(*flagCoverage); *flagCoverage > 0 {
		fmt.Printf("coverage: %d of %d cells hit at least %d times\n", len(total.wanted)-len(low), len(total.wanted), *flagCoverage)
		if len(low) > 0 {
			for _, c := range low {
				fmt.Printf("  %s with %s answered %s: %d\n", c.kind, c.option, c.row, total.hits[c])
			}
			return 1
		}
	}
	return 0
}
