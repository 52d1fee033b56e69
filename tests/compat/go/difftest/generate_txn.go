package main

import (
	"bytes"
	"maps"
	"math"
	"slices"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

func opRange(r *pb.RangeRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: r}}
}

func opPut(r *pb.PutRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: r}}
}

func opDelete(r *pb.DeleteRangeRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: r}}
}

func opTxn(r *pb.TxnRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: r}}
}

// txnPlan deals out keys so that a transaction meant to be valid has no key twice.
type txnPlan struct {
	put, delete []string
	kinds       []string // which ops may be used
	free        bool     // keys as they come
}

func (g *generator) txn(option, row string) *pb.TxnRequest {
	depth, ops := 1, 3
	plan := &txnPlan{kinds: []string{"range", "put", "delete"}}
	keys := slices.Clone(alphabet)
	g.Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
	plan.put, plan.delete = keys[:len(keys)/2], keys[len(keys)/2:]
	switch {
	case option == "empty":
		ops = 0
	case option == "readonly":
		plan.kinds = []string{"range"}
	case option == "readonly.nested":
		plan.kinds, depth = []string{"range"}, 2
	case strings.HasPrefix(option, "depth."):
		depth = map[string]int{"depth.1": 1, "depth.2": 2, "depth.3": 3, "depth.4": 4, "depth.5": 5 + g.Intn(3)}[option]
	case option == "op.txn":
		depth = 2
	case option == "":
		plan.free = g.chance(15)
		depth = pick(g, []int{1, 1, 1, 2, 2, 3, 4, 5})
		if g.chance(3) {
			ops = 0
		} else if g.chance(10) {
			plan.kinds = []string{"range"}
		}
	default:
		depth = pick(g, []int{1, 1, 2, 3})
	}
	t := g.txnLevel(plan, depth, ops, option)
	g.txnOption(t, plan, option)
	g.txnRow(t, plan, option, row)
	return t
}

func (g *generator) txnLevel(plan *txnPlan, depth, ops int, option string) *pb.TxnRequest {
	t := &pb.TxnRequest{}
	for range g.Intn(3) {
		t.Compare = append(t.Compare, g.compare())
	}
	if ops == 0 {
		return t
	}
	branch := func() []*pb.RequestOp {
		var out []*pb.RequestOp
		for range g.Intn(ops + 1) {
			out = append(out, g.leaf(plan))
		}
		return out
	}
	// The two branches share one plan: that is stricter than needed and always valid.
	t.Success, t.Failure = branch(), branch()
	if depth > 1 {
		inner := opTxn(g.txnLevel(plan, depth-1, ops, option))
		if g.chance(70) {
			t.Success = slices.Insert(t.Success, g.Intn(len(t.Success)+1), inner)
		} else {
			t.Failure = slices.Insert(t.Failure, g.Intn(len(t.Failure)+1), inner)
		}
	}
	if len(t.Success)+len(t.Failure) == 0 {
		t.Success = append(t.Success, g.leaf(plan))
	}
	return t
}

func (g *generator) leaf(plan *txnPlan) *pb.RequestOp {
	kind := pick(g, plan.kinds)
	if plan.free {
		switch kind {
		case "put":
			return opPut(g.put("", "OK"))
		case "delete":
			return opDelete(g.deleteRange("", "OK"))
		}
	}
	switch {
	case kind == "put" && len(plan.put) > 0:
		r := g.put("ignore_lease.false", "OK")
		r.IgnoreValue = false
		r.Key = []byte(plan.put[0])
		plan.put = plan.put[1:]
		return opPut(r)
	case kind == "delete" && g.chance(20):
		low := g.Intn(bulkCount)
		return opDelete(&pb.DeleteRangeRequest{Key: []byte(bulkKey(low)), RangeEnd: []byte(bulkKey(low + 1 + g.Intn(5))), PrevKv: g.chance(40)})
	case kind == "delete" && len(plan.delete) > 0:
		key := plan.delete[0]
		plan.delete = plan.delete[1:]
		return opDelete(&pb.DeleteRangeRequest{Key: []byte(key), PrevKv: g.chance(40)})
	}
	r := g.rangeRequest(false, "", "OK")
	if r.Revision < 0 {
		r.Revision = 0 // negative is compacted here, unlike in a plain Range
	}
	return opRange(r)
}

var compareTargets = []pb.Compare_CompareTarget{pb.Compare_VERSION, pb.Compare_CREATE, pb.Compare_MOD, pb.Compare_VALUE, pb.Compare_LEASE}

func (g *generator) compare() *pb.Compare {
	c := &pb.Compare{Target: pick(g, compareTargets), Result: pb.Compare_CompareResult(g.Intn(4)), Key: g.key()}
	switch g.Intn(4) {
	case 0:
		c.Key = g.existingKey()
	case 1:
		c.Key = g.missingKey()
	case 2:
		c.Key, c.RangeEnd = g.interval("")
	}
	g.operand(c)
	if g.chance(4) {
		c.TargetUnion = nil
	}
	if g.chance(2) {
		c.Result = pick(g, []pb.Compare_CompareResult{4, 99, -1})
	}
	if g.chance(2) {
		c.Target = pick(g, []pb.Compare_CompareTarget{5, 99, -1})
	}
	return c
}

// operand sets the operand that belongs to the target, with a value that is often the true one.
func (g *generator) operand(c *pb.Compare) {
	switch c.Target {
	case pb.Compare_VERSION:
		c.TargetUnion = &pb.Compare_Version{Version: g.Int63n(4)}
	case pb.Compare_CREATE:
		c.TargetUnion = &pb.Compare_CreateRevision{CreateRevision: g.value64()}
	case pb.Compare_MOD:
		c.TargetUnion = &pb.Compare_ModRevision{ModRevision: g.value64()}
	case pb.Compare_VALUE:
		c.TargetUnion = &pb.Compare_Value{Value: g.value()}
	case pb.Compare_LEASE:
		c.TargetUnion = &pb.Compare_Lease{Lease: pick(g, []int64{0, g.knownLease(), 77})}
	}
}

// txnOption makes sure the option is used.
func (g *generator) txnOption(t *pb.TxnRequest, plan *txnPlan, option string) {
	add := func(op *pb.RequestOp) {
		if g.chance(50) {
			t.Success = append(t.Success, op)
		} else {
			t.Failure = append(t.Failure, op)
		}
	}
	putKey := func() []byte {
		if len(plan.put) == 0 {
			return []byte("last")
		}
		key := plan.put[0]
		plan.put = plan.put[1:]
		return []byte(key)
	}
	needCompare := func() *pb.Compare {
		if len(t.Compare) == 0 {
			t.Compare = append(t.Compare, g.compare())
		}
		return t.Compare[0]
	}
	switch option {
	case "op.range":
		add(opRange(g.rangeRequest(false, "", "OK")))
	case "op.range.revision":
		add(opRange(g.rangeRequest(false, "revision.past", "OK")))
	case "op.put", "writes":
		add(opPut(&pb.PutRequest{Key: putKey(), Value: g.value()}))
	case "op.put.prev_kv":
		add(opPut(&pb.PutRequest{Key: putKey(), Value: g.value(), PrevKv: true}))
	case "op.put.lease":
		add(opPut(&pb.PutRequest{Key: putKey(), Value: g.value(), Lease: g.knownLease()}))
	case "op.put.ignore":
		// A key of its own, so that no other part of the transaction writes it.
		add(opPut(&pb.PutRequest{Key: []byte("kept"), IgnoreValue: true, IgnoreLease: g.chance(50)}))
	case "op.delete":
		add(opDelete(&pb.DeleteRangeRequest{Key: []byte(bulkKey(g.Intn(bulkCount)))}))
	case "op.delete.prev_kv":
		add(opDelete(&pb.DeleteRangeRequest{Key: []byte(bulkKey(g.Intn(bulkCount))), PrevKv: true}))
	case "ops.many":
		for len(t.Success) < 110 {
			t.Success = append(t.Success, opRange(&pb.RangeRequest{Key: g.key()}))
		}
	case "compares.none":
		t.Compare = nil
	case "compares.one":
		t.Compare = []*pb.Compare{g.compare()}
	case "compares.many":
		for len(t.Compare) < 2+g.Intn(20) {
			t.Compare = append(t.Compare, g.compare())
		}
	case "compare.range":
		c := needCompare()
		c.Key, c.RangeEnd = g.interval("key.range")
	case "compare.no_operand":
		needCompare().TargetUnion = nil
	case "compare.other_operand":
		c := needCompare()
		c.Target = pb.Compare_VERSION
		c.TargetUnion = pick(g, []*pb.Compare{
			{TargetUnion: &pb.Compare_Value{Value: []byte("x")}}, {TargetUnion: &pb.Compare_ModRevision{ModRevision: 1}},
			{TargetUnion: &pb.Compare_Lease{Lease: 1}}, {TargetUnion: &pb.Compare_CreateRevision{CreateRevision: 2}}}).TargetUnion
	default:
		name, ok := strings.CutPrefix(option, "compare.")
		if !ok {
			return
		}
		target, result, _ := strings.Cut(name, ".")
		c := needCompare()
		c.Target = 5 + pb.Compare_CompareTarget(g.Intn(3))
		for _, number := range slices.Sorted(maps.Keys(pb.Compare_CompareTarget_name)) {
			if strings.EqualFold(pb.Compare_CompareTarget_name[number], target) {
				c.Target = pb.Compare_CompareTarget(number)
			}
		}
		c.Result = 4 + pb.Compare_CompareResult(g.Intn(3))
		for _, number := range slices.Sorted(maps.Keys(pb.Compare_CompareResult_name)) {
			if strings.EqualFold(pb.Compare_CompareResult_name[number], result) {
				c.Result = pb.Compare_CompareResult(number)
			}
		}
		g.operand(c)
	}
}

// txnRow makes the transaction fail as the row says. An error found when it is carried out needs
// the branch that is taken, so it goes into both.
func (g *generator) txnRow(t *pb.TxnRequest, plan *txnPlan, option, row string) {
	// Deep or shallow: checks have to find the fault at every level.
	at := t
	for strings.HasPrefix(option, "depth.") || g.chance(50) {
		next := innerTxn(at)
		if next == nil {
			break
		}
		at = next
	}
	one := func(op *pb.RequestOp) {
		if g.chance(50) {
			at.Success = slices.Insert(at.Success, g.Intn(len(at.Success)+1), op)
		} else {
			at.Failure = slices.Insert(at.Failure, g.Intn(len(at.Failure)+1), op)
		}
	}
	// both puts the fault where it is met whatever the compares say.
	both := func(make func() *pb.RequestOp) {
		t.Success = slices.Insert(t.Success, g.Intn(len(t.Success)+1), make())
		t.Failure = slices.Insert(t.Failure, g.Intn(len(t.Failure)+1), make())
	}
	switch row {
	case "EmptyKey":
		fault := g.Intn(4)
		if option == "empty" || len(t.Compare) > 0 && g.chance(30) {
			fault = 4
		} else if strings.HasPrefix(option, "readonly") {
			fault = 0
		}
		switch fault {
		case 0:
			one(opRange(&pb.RangeRequest{RangeEnd: []byte{0}}))
		case 1:
			one(opPut(&pb.PutRequest{Value: []byte("v")}))
		case 2:
			one(opDelete(&pb.DeleteRangeRequest{}))
		case 3:
			one(opTxn(&pb.TxnRequest{Success: []*pb.RequestOp{opPut(&pb.PutRequest{})}}))
		case 4:
			if option == "compares.one" && len(t.Compare) > 0 {
				t.Compare[0].Key = nil
				break
			}
			c := g.compare()
			c.Key = nil
			at.Compare = append(at.Compare, c)
			if option == "compares.none" {
				at.Compare = nil
				one(opRange(&pb.RangeRequest{}))
			}
		}
	case "KeyNotFound":
		if g.chance(50) && !strings.HasPrefix(option, "readonly") {
			key := []byte("never there")
			both(func() *pb.RequestOp { return opPut(&pb.PutRequest{Key: key, IgnoreValue: true}) })
		} else {
			one(&pb.RequestOp{})
		}
	case "ValueProvided":
		one(opPut(&pb.PutRequest{Key: []byte("vp"), Value: []byte("v"), IgnoreValue: true}))
	case "LeaseProvided":
		one(opPut(&pb.PutRequest{Key: []byte("lp"), Lease: 1, IgnoreLease: true}))
	case "InvalidSortOption":
		r := g.rangeRequest(false, "", "InvalidSortOption")
		r.Key = g.key()
		one(opRange(r))
	case "TooManyOps":
		n := 129 + g.Intn(5)
		switch {
		case option == "compares.none" || option == "compares.one" || option != "empty" && g.chance(60):
			for i := 0; len(at.Success) < n; i++ {
				at.Success = append(at.Success, opRange(&pb.RangeRequest{Key: []byte("r")}))
			}
		default:
			for len(at.Compare) < n {
				at.Compare = append(at.Compare, &pb.Compare{Key: []byte("r"), TargetUnion: &pb.Compare_Version{}})
			}
		}
	case "DuplicateKey":
		key := []byte("twice")
		put := func() *pb.RequestOp { return opPut(&pb.PutRequest{Key: key, Value: g.value()}) }
		fault := []*pb.RequestOp{put(), put()}
		switch g.Intn(4) {
		case 0:
			fault = []*pb.RequestOp{put(), opDelete(&pb.DeleteRangeRequest{Key: []byte("t"), RangeEnd: []byte("u")})}
		case 1:
			fault = []*pb.RequestOp{opDelete(&pb.DeleteRangeRequest{Key: key}), put()}
		case 2:
			if !strings.HasPrefix(option, "depth.") {
				fault = []*pb.RequestOp{opTxn(&pb.TxnRequest{Failure: []*pb.RequestOp{put()}}), put()}
			}
		}
		if g.chance(50) {
			at.Success = append(at.Success, fault...)
		} else {
			at.Failure = append(at.Failure, fault...)
		}
	case "FutureRev":
		both(func() *pb.RequestOp {
			return opRange(&pb.RangeRequest{Key: []byte("a"), Revision: symbolCurrent + 1 + g.Int63n(3)})
		})
	case "Compacted":
		revision := pick(g, []int64{symbolCompact - 1, -1, -5, math.MinInt64})
		both(func() *pb.RequestOp { return opRange(&pb.RangeRequest{Key: []byte("a"), Revision: revision}) })
	case "LeaseNotFound":
		id := pick(g, []int64{500_000, -500_000})
		both(func() *pb.RequestOp { return opPut(&pb.PutRequest{Key: []byte("lnf"), Value: []byte("v"), Lease: id}) })
	case "RequestTooLarge":
		one(opPut(&pb.PutRequest{Key: []byte("huge"), Value: bytes.Repeat([]byte("h"), 1<<20+600_000)}))
	}
}

func innerTxn(t *pb.TxnRequest) *pb.TxnRequest {
	for _, branch := range [][]*pb.RequestOp{t.Success, t.Failure} {
		for _, op := range branch {
			if inner := op.GetRequestTxn(); inner != nil {
				return inner
			}
		}
	}
	return nil
}
