package main

import (
	"bytes"
	"fmt"
	"maps"
	"math"
	"math/rand"
	"slices"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// generator makes the next step from the seed and from what the run knows so far. Part of the
// steps aim at the cell of the coverage table that was hit least.
type generator struct {
	*rand.Rand
	pair    *pair
	table   *coverage
	tries   map[cell]int
	pending []Op
}

func newGenerator(seed int64, p *pair, table *coverage) *generator {
	return &generator{Rand: rand.New(rand.NewSource(seed)), pair: p, table: table, tries: map[cell]int{}}
}

var alphabet = []string{"a", "aa", "ab", "b", "b\x00", "ba", "c", "d", "e", "f", "g", "\x00", "\xff", "\xff\xff", "k\xc3\xa9", "k\xfe"}

func bulkKey(i int) string { return fmt.Sprintf("n%03d", i) }

const bulkCount = 60

// leaseIDs are few, so that a lease is often there and often not.
var leaseIDs = []int64{1, 2, 3, 4, 5, 6, 7, 8, 1000, -1, -9, math.MaxInt64, math.MinInt64}

// Lifetimes lie far apart: leases are listed by what remains, and no run may change their order.
var leaseTTLs = []int64{1000, 4000, 9000, 20_000, 60_000, 1_000_000, 9_000_000_000}

func (g *generator) chance(percent int) bool { return g.Intn(100) < percent }

func pick[T any](g *generator, from []T) T { return from[g.Intn(len(from))] }

func (g *generator) liveKeys() []string  { return slices.Sorted(maps.Keys(g.pair.live)) }
func (g *generator) liveLeases() []int64 { return slices.Sorted(maps.Keys(g.pair.leases)) }

func (g *generator) key() []byte {
	if g.chance(10) {
		return []byte(bulkKey(g.Intn(bulkCount)))
	}
	return []byte(pick(g, alphabet))
}

func (g *generator) existingKey() []byte {
	if live := g.liveKeys(); len(live) > 0 {
		return []byte(pick(g, live))
	}
	return g.key()
}

func (g *generator) missingKey() []byte {
	for range 8 {
		if k := g.key(); !g.pair.live[string(k)] {
			return k
		}
	}
	return fmt.Appendf(nil, "missing%d", g.Intn(1000))
}

func (g *generator) value() []byte {
	switch g.Intn(10) {
	case 0:
		return nil
	case 1:
		return bytes.Repeat([]byte{byte(g.Intn(256))}, 1000+g.Intn(3000))
	case 2:
		b := make([]byte, 1+g.Intn(20))
		g.Read(b)
		return b
	}
	return fmt.Appendf(nil, "v%d", g.Intn(20))
}

func (g *generator) knownLease() int64 {
	if live := g.liveLeases(); len(live) > 0 {
		return pick(g, live)
	}
	return pick(g, leaseIDs)
}

func (g *generator) unknownLease() int64 {
	for range 20 {
		if id := pick(g, leaseIDs); !g.pair.leases[id] {
			return id
		}
	}
	return 100_000 + g.Int63n(1000)
}

func (g *generator) interval(form string) (key, end []byte) {
	if form == "" {
		form = pick(g, []string{"key.single", "key.single", "key.range", "key.range", "key.range", "key.from", "key.all", "key.inverted", "prefix", "bulk"})
	}
	switch form {
	case "key.single":
		return g.key(), nil
	case "key.range":
		x, y := g.key(), g.key()
		for bytes.Equal(x, y) || bytes.Equal(x, []byte{0}) || bytes.Equal(y, []byte{0}) {
			x, y = g.key(), g.key()
		}
		if bytes.Compare(x, y) > 0 {
			x, y = y, x
		}
		return x, y
	case "key.from":
		k := g.key()
		for bytes.Equal(k, []byte{0}) {
			k = g.key()
		}
		return k, []byte{0}
	case "key.all":
		return []byte{0}, []byte{0}
	case "key.inverted":
		x, y := g.interval("key.range")
		if g.chance(30) {
			return y, y
		}
		return y, x
	case "key.empty":
		if g.chance(50) {
			return nil, nil
		}
		return nil, pick(g, [][]byte{{0}, []byte("b")})
	case "prefix":
		k := pick(g, []string{"a", "b", "n", "n01"})
		return []byte(k), []byte(k[:len(k)-1] + string(k[len(k)-1]+1))
	case "bulk":
		return []byte("n"), []byte("o")
	}
	panic(form)
}

func (g *generator) revision(form string) int64 {
	if form == "" {
		form = pick(g, []string{"revision.zero", "revision.zero", "revision.zero", "revision.negative", "revision.past", "revision.past", "revision.current", "revision.at_compact"})
	}
	switch form {
	case "revision.zero":
		return 0
	case "revision.negative":
		return -1 - g.Int63n(5)
	case "revision.past":
		return symbolBetween + g.Int63n(1001)
	case "revision.current":
		return symbolCurrent
	case "revision.at_compact":
		return symbolCompact
	case "revision.future":
		return symbolCurrent + 1 + g.Int63n(3)*g.Int63n(500)
	case "revision.compacted":
		return symbolCompact - 1
	}
	panic(form)
}

func (g *generator) value64() int64 {
	return pick(g, []int64{0, 0, 1, 1, 2, 3, -1, symbolCurrent, symbolBetween + g.Int63n(1001), symbolCurrent - 3})
}

// next gives the next step.
func (g *generator) next() Op {
	if len(g.pending) > 0 {
		op := g.pending[0]
		g.pending = g.pending[1:]
		return op
	}
	if g.chance(55) {
		if c, ok := g.table.least(g); ok {
			g.tries[c]++
			if op, ok := g.aimed(c); ok {
				return op
			}
		}
	}
	return g.free()
}

var freeKinds = weighted(map[string]int{
	kindRange: 18, kindRangeStream: 4, kindPut: 18, kindDeleteRange: 5, kindTxn: 18, kindCompact: 1, kindLeaseGrant: 3,
	kindLeaseRevoke: 2, kindKeepAlive: 2, kindTimeToLive: 3, kindLeases: 1, kindMemberList: 1, kindStatus: 1, kindHashKV: 2,
	kindAlarm: 1, kindRaw: 6, kindWatchCreate: 4, kindWatchCancel: 2, kindWatchAsk: 1,
})

func weighted(weights map[string]int) []string {
	var out []string
	for _, kind := range slices.Sorted(maps.Keys(weights)) {
		for range weights[kind] {
			out = append(out, kind)
		}
	}
	return out
}

func (g *generator) free() Op {
	switch kind := pick(g, freeKinds); kind {
	case kindRaw:
		return g.mutated()
	case kindWatchCreate:
		return g.watch("", "OK")
	case kindWatchCancel:
		return g.watchCancel(!g.chance(15))
	case kindWatchAsk:
		return Op{Kind: kindWatchAsk, Stream: g.Intn(watchStreams)}
	case kindPut:
		if g.chance(2) {
			return g.bulkPut()
		}
		return newOp(kind, g.request(kind, "", g.freeRow(kind)))
	default:
		return newOp(kind, g.request(kind, "", g.freeRow(kind)))
	}
}

// freeRow is nearly always OK: errors come from aimed steps and from chance.
func (g *generator) freeRow(kind string) string {
	if g.chance(92) {
		return "OK"
	}
	for _, s := range sections() {
		if s.kind == kind {
			row := pick(g, s.rows)
			if row == "RequestTooLarge" || row == "TooManyOps" {
				return "OK"
			}
			return row
		}
	}
	return "OK"
}

func (g *generator) bulkPut() Op {
	t := &pb.TxnRequest{}
	for i := range bulkCount {
		t.Success = append(t.Success, opPut(&pb.PutRequest{Key: []byte(bulkKey(i)), Value: g.value()}))
	}
	return newOp(kindTxn, t)
}

// aimed makes a step that should hit one cell.
func (g *generator) aimed(c cell) (Op, bool) {
	switch {
	case c.kind == "unknown":
		method := pick(g, []string{"/etcdserverpb.KV/Nope", "/etcdserverpb.Nope/Range", "/etcdserverpb.KV/range", "/nope"})
		return Op{Kind: kindRaw, Method: method}, true
	case c.option == "raw":
		return g.broken(c.kind, c.row)
	case c.kind == kindWatchCreate:
		return g.watch(c.option, c.row), true
	case c.option == "id.compacted":
		return g.cancelCompacted(), true
	case c.kind == kindWatchCancel:
		return g.watchCancel(c.row == "Cancelled"), true
	case c.option == "op.put.ignore" && !g.pair.live["kept"]:
		return newOp(kindPut, &pb.PutRequest{Key: []byte("kept"), Value: []byte("v")}), true
	case c.kind == kindWatchAsk:
		return g.watchAsk(c.option), true
	}
	return newOp(c.kind, g.request(c.kind, c.option, c.row)), true
}

// request builds a message of a kind, with an option it must use and a row it should be answered
// with. Either may be left open.
func (g *generator) request(kind, option, row string) proto.Message {
	var m proto.Message
	switch kind {
	case kindRange, kindRangeStream:
		m = g.rangeRequest(kind == kindRangeStream, option, row)
	case kindPut:
		m = g.put(option, row)
	case kindDeleteRange:
		m = g.deleteRange(option, row)
	case kindTxn:
		m = g.txn(option, row)
	case kindCompact:
		m = g.compaction(option, row)
	case kindLeaseGrant:
		m = g.leaseGrant(option, row)
	case kindLeaseRevoke:
		id := g.leaseOption(option)
		if option == "" && row == "LeaseNotFound" {
			id = g.unknownLease()
		}
		m = &pb.LeaseRevokeRequest{ID: id}
		if row == "OK" && len(g.pair.leases) < 3 {
			g.later(newOp(kindLeaseGrant, g.leaseGrant("", "OK")), newOp(kindLeaseGrant, g.leaseGrant("", "OK")))
		}
	case kindKeepAlive:
		m = &pb.LeaseKeepAliveRequest{ID: g.leaseOption(option)}
	case kindTimeToLive:
		keys := g.chance(50)
		if strings.HasPrefix(option, "keys.") {
			keys = option == "keys.true"
		}
		m = &pb.LeaseTimeToLiveRequest{ID: g.leaseOption(option), Keys: keys}
	case kindLeases:
		m = &pb.LeaseLeasesRequest{}
	case kindMemberList:
		m = &pb.MemberListRequest{Linearizable: option == "linearizable.true" || option == "" && g.chance(50)}
	case kindStatus:
		m = &pb.StatusRequest{}
	case kindHashKV:
		form := option
		if form == "" && row != "OK" {
			form = map[string]string{"Compacted": "revision.compacted", "FutureRev": "revision.future"}[row]
		}
		m = &pb.HashKVRequest{Revision: g.revision(form)}
	case kindAlarm:
		types := map[string]pb.AlarmType{"get.none": pb.AlarmType_NONE, "get.nospace": pb.AlarmType_NOSPACE, "get.corrupt": pb.AlarmType_CORRUPT, "get.invalid": 77}
		alarm, ok := types[option]
		if !ok {
			alarm = pick(g, []pb.AlarmType{0, 1, 2, 77})
		}
		m = &pb.AlarmRequest{Action: pb.AlarmRequest_GET, Alarm: alarm, MemberID: uint64(g.Intn(3))}
	default:
		panic(kind)
	}
	if option == "unknown_field" || g.chance(1) {
		unknown := protowire.AppendTag(nil, protowire.Number(1000+g.Intn(50)), protowire.BytesType)
		m.ProtoReflect().SetUnknown(protowire.AppendString(unknown, "from a later release"))
	}
	return m
}

func (g *generator) later(ops ...Op) { g.pending = append(g.pending, ops...) }

func is(option, name string) bool { return option == name }

func (g *generator) flag(option, name string, percent int) bool {
	switch option {
	case name + ".true":
		return true
	case name + ".false":
		return false
	}
	return g.chance(percent)
}

func (g *generator) rangeRequest(stream bool, option, row string) *pb.RangeRequest {
	r := &pb.RangeRequest{}
	form := func(prefix string) string {
		if strings.HasPrefix(option, prefix) {
			return option
		}
		return ""
	}
	r.Key, r.RangeEnd = g.interval(form("key."))
	r.Revision = g.revision(form("revision."))
	r.Limit = pick(g, []int64{0, 0, 0, 1, 2, 3, 5, 20, -1, -7, math.MaxInt64})
	switch option {
	case "limit.zero":
		r.Limit = 0
	case "limit.negative":
		r.Limit = -1 - g.Int63n(3)
	case "limit.small":
		r.Limit = 1 + g.Int63n(5)
	case "limit.large":
		r.Limit = 10 + g.Int63n(1000)
	}
	if !stream || row == "StreamSort" {
		if g.chance(40) {
			r.SortOrder = pb.RangeRequest_SortOrder(g.Intn(3))
		}
		if g.chance(40) {
			r.SortTarget = pb.RangeRequest_SortTarget(g.Intn(5))
		}
	} else if g.chance(30) && !strings.HasPrefix(option, "target.") {
		r.SortOrder = pb.RangeRequest_ASCEND // the one order besides none that a stream takes, and only by key
	}
	for number, name := range pb.RangeRequest_SortOrder_name {
		if is(option, "order."+strings.ToLower(name)) {
			r.SortOrder = pb.RangeRequest_SortOrder(number)
		}
	}
	for number, name := range pb.RangeRequest_SortTarget_name {
		if is(option, "target."+strings.ToLower(name)) {
			r.SortTarget = pb.RangeRequest_SortTarget(number)
		}
	}
	r.Serializable = g.flag(option, "serializable", 30)
	r.KeysOnly = g.flag(option, "keys_only", 20)
	r.CountOnly = g.flag(option, "count_only", 10)
	if !stream || row == "StreamFilter" {
		g.filters(r, option, 10)
	} else if strings.HasPrefix(option, "filter.") {
		g.filters(r, option, 0)
	}
	// The row last: it may have to give way to nothing.
	invalidOrder := func() { r.SortOrder = pick(g, []pb.RangeRequest_SortOrder{3, 9, -1, math.MaxInt32}) }
	invalidTarget := func() { r.SortTarget = pick(g, []pb.RangeRequest_SortTarget{5, 9, -1, math.MinInt32}) }
	switch option {
	case "order.invalid":
		invalidOrder()
	case "target.invalid":
		invalidTarget()
	}
	switch row {
	case "EmptyKey":
		r.Key = nil
	case "InvalidSortOption":
		switch {
		case strings.HasSuffix(option, ".invalid"):
		case strings.HasPrefix(option, "order."):
			invalidTarget()
		case strings.HasPrefix(option, "target."):
			invalidOrder()
		case g.chance(50):
			invalidOrder()
		default:
			invalidTarget()
		}
	case "FutureRev":
		r.Revision = g.revision("revision.future")
	case "Compacted":
		r.Revision = g.revision("revision.compacted")
	case "StreamSort":
		for r.SortOrder == pb.RangeRequest_NONE || r.SortOrder == pb.RangeRequest_ASCEND && r.SortTarget == pb.RangeRequest_KEY {
			switch {
			case strings.HasPrefix(option, "target."):
				r.SortOrder = pb.RangeRequest_DESCEND
			case strings.HasPrefix(option, "order."):
				r.SortTarget = pb.RangeRequest_SortTarget(1 + g.Intn(4))
			default:
				r.SortOrder, r.SortTarget = pb.RangeRequest_SortOrder(g.Intn(3)), pb.RangeRequest_SortTarget(g.Intn(5))
			}
		}
	case "StreamFilter":
		for r.MinModRevision == 0 && r.MaxModRevision == 0 && r.MinCreateRevision == 0 && r.MaxCreateRevision == 0 {
			g.filters(r, option, 50)
		}
	}
	return r
}

func (g *generator) filters(r *pb.RangeRequest, option string, percent int) {
	if option == "filter.none" {
		return
	}
	for _, f := range []struct {
		name  string
		value *int64
	}{{"filter.min_mod", &r.MinModRevision}, {"filter.max_mod", &r.MaxModRevision}, {"filter.min_create", &r.MinCreateRevision}, {"filter.max_create", &r.MaxCreateRevision}} {
		if option == f.name || g.chance(percent) {
			*f.value = pick(g, []int64{-1, 1, 2, symbolCurrent, symbolCurrent + 5, symbolCompact, symbolBetween + g.Int63n(1001), symbolBetween + g.Int63n(1001), math.MaxInt64})
		}
	}
}

func (g *generator) put(option, row string) *pb.PutRequest {
	r := &pb.PutRequest{Key: g.key(), Value: g.value(), PrevKv: g.flag(option, "prev_kv", 30)}
	if g.chance(30) {
		r.Lease = g.knownLease()
	}
	r.IgnoreValue = g.flag(option, "ignore_value", 10)
	r.IgnoreLease = g.flag(option, "ignore_lease", 10)
	switch option {
	case "lease.zero":
		r.Lease = 0
	case "lease.known":
		r.Lease = g.knownLease()
	case "lease.unknown":
		r.Lease = 200_000 + g.Int63n(100)
	case "lease.negative":
		r.Lease = -200_000 - g.Int63n(100)
	case "key.exists":
		r.Key = g.existingKey()
	case "key.missing":
		r.Key = g.missingKey()
	case "value.empty":
		r.Value = nil
	case "value.small":
		r.Value = []byte("small")
	case "value.large":
		r.Value = bytes.Repeat([]byte("l"), 2000+g.Intn(2000))
	case "value.huge":
		r.Value = bytes.Repeat([]byte("h"), 1<<20+600_000+g.Intn(3))
	}
	pinLease := strings.HasPrefix(option, "lease.")
	switch row {
	case "OK":
		if r.IgnoreValue {
			r.Value = nil
		}
		if pinLease && r.Lease != 0 && option != "ignore_lease.true" {
			r.IgnoreLease = false
		}
		if r.IgnoreLease {
			r.Lease = 0
		}
		if strings.HasPrefix(option, "value.") && option != "value.empty" || option == "key.missing" {
			r.IgnoreValue = false
			if option == "key.missing" {
				r.IgnoreLease = false
			}
		}
		if r.IgnoreValue || r.IgnoreLease {
			r.Key = g.existingKey()
		}
	case "EmptyKey":
		r.Key = nil
	case "ValueProvided":
		r.IgnoreValue = true
		if len(r.Value) == 0 {
			r.Value = []byte("v")
		}
	case "LeaseProvided":
		r.IgnoreLease = true
		if r.Lease == 0 {
			r.Lease = pick(g, leaseIDs)
		}
		if option == "ignore_value.true" || r.IgnoreValue && option == "value.empty" {
			r.Value = nil
		} else if r.IgnoreValue {
			r.IgnoreValue = false
		}
	case "LeaseNotFound":
		r.IgnoreLease = false
		if r.Lease == 0 || g.pair.leases[r.Lease] {
			r.Lease = pick(g, []int64{g.unknownLease(), -200_000})
		}
		if option == "ignore_value.true" {
			r.Value = nil
		} else if len(r.Value) > 0 {
			r.IgnoreValue = false
		}
	case "KeyNotFound":
		r.Key = g.missingKey()
		switch {
		case option == "ignore_value.false" || strings.HasPrefix(option, "value.") && option != "value.empty":
			r.IgnoreValue, r.IgnoreLease = false, true
		case option == "ignore_lease.false" || option == "lease.known":
			r.IgnoreValue, r.IgnoreLease = true, false
		case !r.IgnoreValue && !r.IgnoreLease:
			r.IgnoreValue = true
		}
		if r.IgnoreValue {
			r.Value = nil
		}
		if r.IgnoreLease {
			r.Lease = 0
		}
	case "RequestTooLarge":
		r.IgnoreValue = false
		r.Value = bytes.Repeat([]byte("h"), 1<<20+600_000+g.Intn(3))
		if r.IgnoreLease && option == "ignore_lease.true" {
			r.Lease = 0
		} else {
			r.IgnoreLease = false
		}
	}
	return r
}

func (g *generator) deleteRange(option, row string) *pb.DeleteRangeRequest {
	r := &pb.DeleteRangeRequest{PrevKv: g.flag(option, "prev_kv", 40)}
	form := ""
	if strings.HasPrefix(option, "key.") {
		form = option
	}
	if form == "" && g.chance(70) {
		form = "key.single" // whole ranges would leave the store empty most of the time
	}
	r.Key, r.RangeEnd = g.interval(form)
	switch row {
	case "EmptyKey":
		r.Key = nil
	case "RequestTooLarge":
		if form == "" {
			form = "key.single"
		}
		huge := strings.Repeat("h", 1<<20+600_000)
		r.Key = []byte(huge)
		switch form {
		case "key.single":
			r.RangeEnd = nil
		case "key.range":
			r.RangeEnd = []byte("i")
		case "key.from":
			r.RangeEnd = []byte{0}
		case "key.inverted":
			r.RangeEnd = []byte("a")
		}
	}
	return r
}

func (g *generator) compaction(option, row string) *pb.CompactionRequest {
	form := option
	if !strings.HasPrefix(option, "revision.") {
		switch row {
		case "OK":
			form = "revision.past"
		case "FutureRev":
			form = "revision.future"
		default:
			form = pick(g, []string{"revision.zero", "revision.negative", "revision.at_compact", "revision.compacted"})
		}
	}
	r := &pb.CompactionRequest{Revision: g.revision(form), Physical: g.flag(option, "physical", 50)}
	if form == "revision.past" {
		// Mostly a little way on: a history is worth more than a compacted one.
		r.Revision = symbolBetween + pick(g, []int64{100, 200, 300, 900})
	}
	return r
}

func (g *generator) leaseGrant(option, row string) *pb.LeaseGrantRequest {
	r := &pb.LeaseGrantRequest{ID: g.unknownLease(), TTL: pick(g, leaseTTLs)}
	switch option {
	case "id.zero":
		r.ID = 0
	case "id.in_use":
		r.ID = g.knownLease()
	case "id.negative":
		r.ID = -300_000 - g.Int63n(1000)
	case "id.chosen":
		r.ID = 300_000 + g.Int63n(1000)
	case "ttl.negative":
		r.TTL = pick(g, []int64{-1, -100, math.MinInt64})
	case "ttl.zero":
		r.TTL = 0
	case "ttl.below_minimum":
		r.TTL = 1 + g.Int63n(2)
	case "ttl.too_large":
		r.TTL = pick(g, []int64{9_000_000_001, math.MaxInt64})
	case "ttl.largest":
		r.TTL = 9_000_000_000
	case "":
		if g.chance(20) {
			r.ID = 0
		}
		if g.chance(20) {
			r.TTL = pick(g, []int64{0, -1, 1, 2})
		}
	}
	switch row {
	case "LeaseExist":
		r.ID = g.knownLease()
	case "LeaseTTLTooLarge":
		r.TTL = pick(g, []int64{9_000_000_001, math.MaxInt64})
	}
	if row == "OK" && len(g.pair.leases) > 12 {
		g.later(newOp(kindLeaseRevoke, &pb.LeaseRevokeRequest{ID: g.knownLease()}))
	}
	return r
}

func (g *generator) leaseOption(option string) int64 {
	switch option {
	case "id.zero":
		return 0
	case "id.known":
		return g.knownLease()
	case "id.negative":
		return -400_000 - g.Int63n(100)
	case "id.unknown":
		return 400_000 + g.Int63n(100)
	}
	if g.chance(75) {
		return g.knownLease()
	}
	return pick(g, leaseIDs)
}

const (
	watchStreams  = 3
	watchersInUse = 10
)

func (g *generator) watch(option, row string) Op {
	stream := g.Intn(watchStreams)
	known := g.pair.streams[stream]
	if known != nil && len(known.open) >= watchersInUse {
		if g.chance(50) {
			g.later(Op{Kind: kindWatchClose, Stream: stream})
		} else {
			g.later(g.cancelOf(stream), g.cancelOf(stream), g.cancelOf(stream))
		}
	}
	form := func(prefix string) string {
		if strings.HasPrefix(option, prefix) {
			return option
		}
		return ""
	}
	r := &pb.WatchCreateRequest{
		PrevKv: g.flag(option, "prev_kv", 50), Fragment: g.flag(option, "fragment", 30), ProgressNotify: g.flag(option, "progress_notify", 20),
	}
	key := form("key.")
	for r.Key, r.RangeEnd = g.interval(key); key == "" && bytes.Compare(r.Key, r.RangeEnd) >= 0 && len(r.RangeEnd) > 0 && !bytes.Equal(r.RangeEnd, []byte{0}); {
		r.Key, r.RangeEnd = g.interval("")
	}
	if key == "key.empty" && !(len(r.RangeEnd) == 1 && r.RangeEnd[0] == 0) && g.chance(50) {
		r.RangeEnd = nil
	}
	start := form("revision.")
	if start == "" {
		start = pick(g, []string{"revision.zero", "revision.zero", "revision.zero", "revision.past", "revision.past", "revision.current", "revision.at_compact", "revision.future"})
	}
	r.StartRevision = g.revision(start)
	switch pick(g, []int{0, 0, 0, 1, 2, 3}) {
	case 1:
		r.Filters = []pb.WatchCreateRequest_FilterType{pb.WatchCreateRequest_NOPUT}
	case 2:
		r.Filters = []pb.WatchCreateRequest_FilterType{pb.WatchCreateRequest_NODELETE}
	}
	switch option {
	case "filter.none":
		r.Filters = nil
	case "filter.noput":
		r.Filters = []pb.WatchCreateRequest_FilterType{pb.WatchCreateRequest_NOPUT}
	case "filter.nodelete":
		r.Filters = []pb.WatchCreateRequest_FilterType{pb.WatchCreateRequest_NODELETE}
	case "filter.both":
		r.Filters = []pb.WatchCreateRequest_FilterType{pb.WatchCreateRequest_NODELETE, pb.WatchCreateRequest_NOPUT}
	case "filter.repeated":
		r.Filters = []pb.WatchCreateRequest_FilterType{pb.WatchCreateRequest_NODELETE, pb.WatchCreateRequest_NODELETE}
	case "filter.invalid":
		r.Filters = []pb.WatchCreateRequest_FilterType{pick(g, []pb.WatchCreateRequest_FilterType{2, 99, -1})}
	}
	switch {
	case option == "id.auto" || option == "" && g.chance(60):
	case option == "id.negative":
		r.WatchId = -2 - g.Int63n(1<<40)
	default:
		r.WatchId = 1 + g.Int63n(40)
		if option == "id.chosen" {
			r.WatchId = 50 + g.Int63n(1<<40)
		}
	}
	switch row {
	case "Negative":
		r.StartRevision = -1 - g.Int63n(5)
	case "EmptyRange":
		r.Key, r.RangeEnd = g.interval("key.inverted")
	case "Compacted":
		r.StartRevision = g.revision("revision.compacted")
	case "DuplicateID":
		if r.StartRevision < 0 {
			r.StartRevision = 0
		}
		if option == "id.auto" {
			option = "id.chosen"
		}
		if id, at, ok := g.openID(option == "id.negative"); ok {
			r.WatchId, stream = id, at
		} else {
			g.later(watchOp(stream, r)) // the next one with this id is the duplicate
			r = proto.Clone(r).(*pb.WatchCreateRequest)
			r.StartRevision, r.RangeEnd = 0, nil
		}
	}
	return watchOp(stream, r)
}

func watchOp(stream int, r *pb.WatchCreateRequest) Op {
	op := newOp(kindWatchCreate, r)
	op.Stream = stream
	return op
}

func (g *generator) openID(negative bool) (id int64, stream int, ok bool) {
	for stream := range watchStreams {
		if known := g.pair.streams[stream]; known != nil {
			for _, w := range known.open {
				if w.id != 0 && (w.id < 0) == negative {
					return w.id, stream, true
				}
			}
		}
	}
	return 0, 0, false
}

func (g *generator) cancelOf(stream int) Op {
	op := newOp(kindWatchCancel, &pb.WatchCancelRequest{})
	op.Stream, op.Watch = stream, g.Intn(1000)
	return op
}

func (g *generator) watchCancel(open bool) Op {
	for stream := range watchStreams {
		if known := g.pair.streams[stream]; open && known != nil && len(known.open) > 0 && g.chance(60) {
			return g.cancelOf(stream)
		}
	}
	op := newOp(kindWatchCancel, &pb.WatchCancelRequest{WatchId: pick(g, []int64{-1, 700_000, 1 << 50, math.MinInt64})})
	op.Stream, op.Watch = g.Intn(watchStreams), -1
	if open {
		op.Watch = 0
	}
	return op
}

// cancelCompacted cancels a watcher that the server has already cancelled as compacted.
func (g *generator) cancelCompacted() Op {
	op := newOp(kindWatchCancel, &pb.WatchCancelRequest{})
	op.Watch = cancelsCompacted
	for stream := range watchStreams {
		if known := g.pair.streams[stream]; known != nil && len(known.compacted) > 0 {
			op.Stream = stream
			return op
		}
	}
	g.later(op)
	return watchOp(0, &pb.WatchCreateRequest{Key: g.key(), StartRevision: g.revision("revision.compacted")})
}

// watchAsk arranges the state of a stream first where an option calls for it.
func (g *generator) watchAsk(option string) Op {
	stream := g.Intn(watchStreams)
	ask := Op{Kind: kindWatchAsk, Stream: stream}
	switch option {
	case "watchers.none":
		g.later(ask)
		return Op{Kind: kindWatchClose, Stream: stream}
	case "watchers.future":
		g.later(ask)
		return watchOp(stream, &pb.WatchCreateRequest{Key: []byte("a"), StartRevision: symbolCurrent + 100_000})
	}
	if option == "watchers.compacted" {
		g.later(watchOp(stream, &pb.WatchCreateRequest{Key: g.key(), StartRevision: g.revision("revision.compacted")}))
	}
	g.later(watchOp(stream, &pb.WatchCreateRequest{Key: g.key()}), ask)
	return Op{Kind: kindWatchClose, Stream: stream}
}
