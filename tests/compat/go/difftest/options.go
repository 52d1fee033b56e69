package main

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// Options are the names under which the coverage table counts what a request used. They are read
// off the request that was sent, never off what the generator meant to build.

func optionsOf(kind string, m proto.Message, p *pair) []string {
	set := options{}
	switch r := m.(type) {
	case *pb.RangeRequest:
		set.rangeRequest(r)
	case *pb.PutRequest:
		set.put(r, p)
	case *pb.DeleteRangeRequest:
		set.interval(r.Key, r.RangeEnd)
		set.either("prev_kv", r.PrevKv)
	case *pb.TxnRequest:
		set.txn(r)
	case *pb.CompactionRequest:
		set.either("physical", r.Physical)
		set.revision(r.Revision)
	case *pb.LeaseGrantRequest:
		set.leaseGrant(r, p)
	case *pb.LeaseRevokeRequest:
		set.leaseID(r.ID, p)
	case *pb.LeaseKeepAliveRequest:
		set.leaseID(r.ID, p)
	case *pb.LeaseTimeToLiveRequest:
		set.leaseID(r.ID, p)
		set.either("keys", r.Keys)
	case *pb.LeaseLeasesRequest:
		set.add("leases.%s", count(len(p.leases)))
	case *pb.MemberListRequest:
		set.either("linearizable", r.Linearizable)
	case *pb.StatusRequest:
		set.add("plain")
	case *pb.HashKVRequest:
		set.revision(r.Revision)
	case *pb.AlarmRequest:
		set.add("get.%s", strings.ToLower(enumName(pb.AlarmType_name, int32(r.Alarm))))
	case *pb.WatchCreateRequest:
		set.watch(r)
	}
	if len(m.ProtoReflect().GetUnknown()) > 0 {
		set.add("unknown_field")
	}
	return set.list()
}

type options map[string]bool

func (o options) add(format string, args ...any) { o[fmt.Sprintf(format, args...)] = true }

func (o options) either(name string, yes bool) { o.add("%s.%t", name, yes) }

func (o options) list() []string {
	out := make([]string, 0, len(o))
	for name := range o {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

func count(n int) string {
	switch n {
	case 0:
		return "none"
	case 1:
		return "one"
	}
	return "many"
}

func enumName(names map[int32]string, v int32) string {
	if name, ok := names[v]; ok {
		return name
	}
	return "invalid"
}

func (o options) interval(key, end []byte) {
	switch {
	case len(key) == 0:
		o.add("key.empty")
	case len(end) == 0:
		o.add("key.single")
	case bytes.Equal(end, []byte{0}) && bytes.Equal(key, []byte{0}):
		o.add("key.all")
	case bytes.Equal(end, []byte{0}):
		o.add("key.from")
	case bytes.Compare(key, end) >= 0:
		o.add("key.inverted")
	default:
		o.add("key.range")
	}
}

func (o options) revision(v int64) {
	near := func(base int64) bool { return v > base-symbolWindow && v < base+symbolWindow }
	switch {
	case v == 0:
		o.add("revision.zero")
	case v < 0:
		o.add("revision.negative")
	case near(symbolCurrent) && v > symbolCurrent:
		o.add("revision.future")
	case v == symbolCurrent:
		o.add("revision.current")
	case near(symbolCompact) && v < symbolCompact:
		o.add("revision.compacted")
	case v == symbolCompact:
		o.add("revision.at_compact")
	default:
		o.add("revision.past")
	}
}

func (o options) rangeRequest(r *pb.RangeRequest) {
	o.interval(r.Key, r.RangeEnd)
	o.revision(r.Revision)
	switch {
	case r.Limit == 0:
		o.add("limit.zero")
	case r.Limit < 0:
		o.add("limit.negative")
	case r.Limit < 10:
		o.add("limit.small")
	default:
		o.add("limit.large")
	}
	o.add("order.%s", strings.ToLower(enumName(pb.RangeRequest_SortOrder_name, int32(r.SortOrder))))
	o.add("target.%s", strings.ToLower(enumName(pb.RangeRequest_SortTarget_name, int32(r.SortTarget))))
	o.either("serializable", r.Serializable)
	o.either("keys_only", r.KeysOnly)
	o.either("count_only", r.CountOnly)
	for _, f := range []struct {
		name  string
		value int64
	}{{"min_mod", r.MinModRevision}, {"max_mod", r.MaxModRevision}, {"min_create", r.MinCreateRevision}, {"max_create", r.MaxCreateRevision}} {
		if f.value != 0 {
			o.add("filter.%s", f.name)
		}
	}
	if r.MinModRevision == 0 && r.MaxModRevision == 0 && r.MinCreateRevision == 0 && r.MaxCreateRevision == 0 {
		o.add("filter.none")
	}
}

func (o options) put(r *pb.PutRequest, p *pair) {
	o.either("prev_kv", r.PrevKv)
	o.either("ignore_value", r.IgnoreValue)
	o.either("ignore_lease", r.IgnoreLease)
	switch {
	case r.Lease == 0:
		o.add("lease.zero")
	case r.Lease < 0:
		o.add("lease.negative")
	case p != nil && p.leases[r.Lease]:
		o.add("lease.known")
	default:
		o.add("lease.unknown")
	}
	switch n := len(r.Value); {
	case n == 0:
		o.add("value.empty")
	case n < 1000:
		o.add("value.small")
	case n < 1<<20:
		o.add("value.large")
	default:
		o.add("value.huge")
	}
	switch {
	case len(r.Key) == 0:
		o.add("key.empty")
	case p != nil && p.live[string(r.Key)]:
		o.add("key.exists")
	default:
		o.add("key.missing")
	}
}

func (o options) leaseGrant(r *pb.LeaseGrantRequest, p *pair) {
	switch {
	case r.ID == 0:
		o.add("id.zero")
	case p.leases[r.ID]:
		o.add("id.in_use")
	case r.ID < 0:
		o.add("id.negative")
	default:
		o.add("id.chosen")
	}
	switch {
	case r.TTL < 0:
		o.add("ttl.negative")
	case r.TTL == 0:
		o.add("ttl.zero")
	case r.TTL < 3:
		o.add("ttl.below_minimum")
	case r.TTL > 9_000_000_000:
		o.add("ttl.too_large")
	case r.TTL == 9_000_000_000:
		o.add("ttl.largest")
	default:
		o.add("ttl.plain")
	}
}

func (o options) leaseID(id int64, p *pair) {
	switch {
	case id == 0:
		o.add("id.zero")
	case p.leases[id]:
		o.add("id.known")
	case id < 0:
		o.add("id.negative")
	default:
		o.add("id.unknown")
	}
}

func (o options) txn(r *pb.TxnRequest) {
	depth, kinds := o.txnTree(r, 1)
	if crashes(r) {
		o.add("crash.ignore_after_delete")
	}
	o.add("depth.%d", min(depth, 5))
	if depth > 5 {
		o.add("depth.many")
	}
	switch {
	case len(kinds) == 0:
		o.add("empty")
	case len(kinds) == 1 && kinds["range"]:
		o.add("readonly")
	case kinds["range"] && !kinds["put"] && !kinds["delete"] && kinds["txn"]:
		o.add("readonly.nested")
	default:
		o.add("writes")
	}
	if n := max(len(r.Compare), len(r.Success), len(r.Failure)); n >= 100 {
		o.add("ops.many")
	}
	o.add("compares.%s", count(len(r.Compare)))
}

// crashes tells of a transaction that real servers die of: a deletion up to the end of the key space
// is not seen by the check for duplicate keys, so a put that ignores its value can follow it and then
// does not find the key.
func crashes(r *pb.TxnRequest) bool {
	deletes, ignores := txnParts(r)
	return deletes && ignores
}

func txnParts(r *pb.TxnRequest) (deletes, ignores bool) {
	for _, branch := range [][]*pb.RequestOp{r.Success, r.Failure} {
		for _, op := range branch {
			if d := op.GetRequestDeleteRange(); d != nil && bytes.Equal(d.RangeEnd, []byte{0}) {
				deletes = true
			}
			if q := op.GetRequestPut(); q != nil && (q.IgnoreValue || q.IgnoreLease) {
				ignores = true
			}
			if t := op.GetRequestTxn(); t != nil {
				x, y := txnParts(t)
				deletes, ignores = deletes || x, ignores || y
			}
		}
	}
	return deletes, ignores
}

func (o options) txnTree(r *pb.TxnRequest, level int) (int, map[string]bool) {
	kinds, depth := map[string]bool{}, level
	for _, c := range r.Compare {
		target := strings.ToLower(enumName(pb.Compare_CompareTarget_name, int32(c.Target)))
		result := strings.ToLower(enumName(pb.Compare_CompareResult_name, int32(c.Result)))
		o.add("compare.%s.%s", target, result)
		if len(c.RangeEnd) > 0 {
			o.add("compare.range")
		}
		switch union := compareUnion(c); union {
		case "":
			o.add("compare.no_operand")
		case target:
		default:
			o.add("compare.other_operand")
		}
	}
	for _, branch := range [][]*pb.RequestOp{r.Success, r.Failure} {
		for _, op := range branch {
			switch v := op.Request.(type) {
			case *pb.RequestOp_RequestRange:
				kinds["range"] = true
				if v.RequestRange.Revision != 0 {
					o.add("op.range.revision")
				}
			case *pb.RequestOp_RequestPut:
				kinds["put"] = true
				if v.RequestPut.PrevKv {
					o.add("op.put.prev_kv")
				}
				if v.RequestPut.IgnoreValue || v.RequestPut.IgnoreLease {
					o.add("op.put.ignore")
				}
				if v.RequestPut.Lease != 0 {
					o.add("op.put.lease")
				}
			case *pb.RequestOp_RequestDeleteRange:
				kinds["delete"] = true
				if v.RequestDeleteRange.PrevKv {
					o.add("op.delete.prev_kv")
				}
			case *pb.RequestOp_RequestTxn:
				kinds["txn"] = true
				below, inner := o.txnTree(v.RequestTxn, level+1)
				depth = max(depth, below)
				for k := range inner {
					kinds[k] = true
				}
			default:
				o.add("op.unset")
			}
		}
	}
	for k := range kinds {
		o.add("op.%s", k)
	}
	return depth, kinds
}

func compareUnion(c *pb.Compare) string {
	switch c.TargetUnion.(type) {
	case *pb.Compare_Version:
		return "version"
	case *pb.Compare_CreateRevision:
		return "create"
	case *pb.Compare_ModRevision:
		return "mod"
	case *pb.Compare_Value:
		return "value"
	case *pb.Compare_Lease:
		return "lease"
	}
	return ""
}

func (o options) watch(r *pb.WatchCreateRequest) {
	o.interval(r.Key, r.RangeEnd)
	o.revision(r.StartRevision)
	switch {
	case len(r.Filters) == 0:
		o.add("filter.none")
	case slices.ContainsFunc(r.Filters, func(f pb.WatchCreateRequest_FilterType) bool { return f > 1 || f < 0 }):
		o.add("filter.invalid")
	case slices.Contains(r.Filters, pb.WatchCreateRequest_NOPUT) && slices.Contains(r.Filters, pb.WatchCreateRequest_NODELETE):
		o.add("filter.both")
	case len(r.Filters) > 1:
		o.add("filter.repeated")
	default:
		o.add("filter.%s", strings.ToLower(r.Filters[0].String()))
	}
	o.either("prev_kv", r.PrevKv)
	o.either("fragment", r.Fragment)
	o.either("progress_notify", r.ProgressNotify)
	switch {
	case r.WatchId == 0:
		o.add("id.auto")
	case r.WatchId < 0:
		o.add("id.negative")
	default:
		o.add("id.chosen")
	}
}

// Rows: the answers of errors.md, by what came back.

var rowNames = map[string]string{
	"etcdserver: key is not provided":                          "EmptyKey",
	"etcdserver: key not found":                                "KeyNotFound",
	"etcdserver: value is provided":                            "ValueProvided",
	"etcdserver: lease is provided":                            "LeaseProvided",
	"etcdserver: too many operations in txn request":           "TooManyOps",
	"etcdserver: duplicate key given in txn request":           "DuplicateKey",
	"etcdserver: invalid sort option":                          "InvalidSortOption",
	"etcdserver: mvcc: required revision has been compacted":   "Compacted",
	"etcdserver: mvcc: required revision is a future revision": "FutureRev",
	"etcdserver: requested lease not found":                    "LeaseNotFound",
	"etcdserver: lease already exists":                         "LeaseExist",
	"etcdserver: too large lease TTL":                          "LeaseTTLTooLarge",
	"etcdserver: request is too large":                         "RequestTooLarge",
	"RangeStream does not support custom sort orders":          "StreamSort",
	"RangeStream does not support revision filters":            "StreamFilter",
	"mvcc: duplicate watch ID provided on the WatchStream":     "DuplicateID",
	"mvcc: watcher range is empty":                             "EmptyRange",
}

func rowOf(a answer) string {
	if a.err == nil {
		if w, ok := a.message.(*pb.WatchResponse); ok && w.Canceled && w.CancelReason != "" {
			if w.CancelReason == "etcdserver: mvcc: required revision has been compacted" {
				return "Negative"
			}
			if name := rowNames[w.CancelReason]; name != "" {
				return name
			}
			return "Reason:" + w.CancelReason
		}
		return "OK"
	}
	s := status.Convert(a.err)
	if name := rowNames[s.Message()]; name != "" {
		return name
	}
	switch {
	case s.Code() == codes.Internal && strings.Contains(s.Message(), "unmarshal"):
		return "Undecodable"
	case s.Code() == codes.ResourceExhausted && strings.Contains(s.Message(), "larger than max"):
		return "MessageTooLarge"
	case s.Code() == codes.Unimplemented:
		return "Unimplemented"
	}
	return s.Code().String()
}

func rawOptions(op *Op) []string {
	kind, _ := rawKind(op.Method)
	out := []string{"raw"}
	if op.Mutated {
		out = append(out, "raw.mutated")
	}
	if m := newRequest(kind); m != nil && proto.Unmarshal(op.Req, m) == nil {
		out = append(out, optionsOf(kind, m, &pair{})...)
		if r, ok := m.(*pb.TxnRequest); ok {
			out = append(out, nestedSortOptions(r)...)
		}
	}
	return out
}

// nestedSortOptions names invalid sort numbers inside a transaction, for rules about them.
func nestedSortOptions(r *pb.TxnRequest) []string {
	var out []string
	for _, branch := range [][]*pb.RequestOp{r.Success, r.Failure} {
		for _, op := range branch {
			if q := op.GetRequestRange(); q != nil {
				set := options{}
				set.rangeRequest(q)
				for _, name := range []string{"order.invalid", "target.invalid"} {
					if set[name] {
						out = append(out, name)
					}
				}
			}
			if t := op.GetRequestTxn(); t != nil {
				out = append(out, nestedSortOptions(t)...)
			}
		}
	}
	return out
}

// cell is one field of the coverage table.
type cell struct{ kind, option, row string }

// table lists every cell that has to be hit: each option of an RPC with each answer the RPC can
// give, but for pairs that exclude each other.
type section struct {
	kind    string
	options []string
	rows    []string
	never   []string // "option row", either part a regular expression
}

func revisionOptions() []string {
	return []string{"revision.zero", "revision.negative", "revision.past", "revision.current", "revision.at_compact", "revision.future", "revision.compacted"}
}

var keyOptions = []string{"key.single", "key.range", "key.from", "key.all", "key.inverted", "key.empty"}

func sections() []section {
	rangeOptions := slices.Concat(keyOptions, revisionOptions(), []string{
		"limit.zero", "limit.negative", "limit.small", "limit.large",
		"order.none", "order.ascend", "order.descend", "order.invalid",
		"target.key", "target.version", "target.create", "target.mod", "target.value", "target.invalid",
		"serializable.true", "serializable.false", "keys_only.true", "keys_only.false", "count_only.true", "count_only.false",
		"filter.none", "filter.min_mod", "filter.max_mod", "filter.min_create", "filter.max_create", "unknown_field",
	})
	rangeNever := []string{
		"key.empty (?!EmptyKey)", "key[.](?!empty) EmptyKey",
		"(order|target).invalid (?!EmptyKey|InvalidSortOption)",
		"revision.future (OK|Compacted)", "revision.compacted (OK|FutureRev)",
		"revision.(?!future) FutureRev", "revision.(?!compacted) Compacted",
	}
	txnOptions := []string{
		"op.range", "op.put", "op.delete", "op.txn", "op.range.revision", "op.put.prev_kv", "op.put.ignore", "op.put.lease", "op.delete.prev_kv",
		"depth.1", "depth.2", "depth.3", "depth.4", "depth.5", "writes", "readonly", "readonly.nested", "empty", "ops.many",
		"compares.none", "compares.one", "compares.many", "compare.range", "compare.no_operand", "compare.other_operand",
	}
	for _, target := range []string{"version", "create", "mod", "value", "lease", "invalid"} {
		for _, result := range []string{"equal", "greater", "less", "not_equal", "invalid"} {
			txnOptions = append(txnOptions, "compare."+target+"."+result)
		}
	}
	raw := func(kind string) section {
		return section{kind: kind, options: []string{"raw"}, rows: []string{"Undecodable", "MessageTooLarge"}}
	}
	list := []section{
		{kind: kindRange, options: rangeOptions, rows: []string{"OK", "EmptyKey", "InvalidSortOption", "FutureRev", "Compacted"}, never: rangeNever},
		{kind: kindRangeStream, options: rangeOptions,
			rows: []string{"OK", "EmptyKey", "InvalidSortOption", "FutureRev", "Compacted", "StreamSort", "StreamFilter"},
			never: append(rangeNever,
				"order.descend (OK|FutureRev|Compacted|StreamFilter)", "order.none StreamSort",
				"filter.(?!none) (OK|FutureRev|Compacted)", "filter.none StreamFilter")},
		{kind: kindPut,
			options: []string{"prev_kv.true", "prev_kv.false", "ignore_value.true", "ignore_value.false", "ignore_lease.true", "ignore_lease.false",
				"lease.zero", "lease.negative", "lease.known", "lease.unknown", "value.empty", "value.small", "value.large", "value.huge",
				"key.exists", "key.missing", "key.empty", "unknown_field"},
			rows: []string{"OK", "EmptyKey", "ValueProvided", "LeaseProvided", "LeaseNotFound", "KeyNotFound", "RequestTooLarge"},
			never: []string{"key.empty (?!EmptyKey)", "key.(exists|missing) EmptyKey",
				"ignore_value.false ValueProvided", "value.empty ValueProvided", "ignore_value.true RequestTooLarge",
				"ignore_lease.false LeaseProvided", "lease.zero LeaseProvided",
				"ignore_lease.true LeaseNotFound", "lease.(zero|known) LeaseNotFound", "lease.(negative|unknown) (OK|KeyNotFound)",
				"key.exists KeyNotFound",
				"value.huge (?!EmptyKey|ValueProvided|LeaseProvided|RequestTooLarge)", "value.(?!huge) RequestTooLarge"}},
		{kind: kindDeleteRange, options: append(slices.Clone(keyOptions), "prev_kv.true", "prev_kv.false", "unknown_field"),
			rows: []string{"OK", "EmptyKey", "RequestTooLarge"}, never: []string{"key.empty (?!EmptyKey)", "key.(?!empty) EmptyKey", "key.all RequestTooLarge"}},
		{kind: kindTxn, options: txnOptions,
			rows: []string{"OK", "EmptyKey", "KeyNotFound", "ValueProvided", "LeaseProvided", "InvalidSortOption", "TooManyOps", "DuplicateKey",
				"FutureRev", "Compacted", "LeaseNotFound", "RequestTooLarge"},
			never: []string{
				"empty (?!OK|EmptyKey|TooManyOps)",
				"readonly(.nested)? (ValueProvided|LeaseProvided|DuplicateKey|LeaseNotFound|RequestTooLarge)",
				"readonly.nested KeyNotFound", "readonly KeyNotFound",
				"ops.many TooManyOps"}},
		{kind: kindCompact, options: append(revisionOptions(), "physical.true", "physical.false"), rows: []string{"OK", "Compacted", "FutureRev"},
			never: []string{"revision.(zero|negative|compacted|at_compact|future) OK", "revision.(?!future) FutureRev", "revision.(future|current|past) Compacted"}},
		{kind: kindLeaseGrant,
			options: []string{"id.zero", "id.in_use", "id.negative", "id.chosen", "ttl.negative", "ttl.zero", "ttl.below_minimum", "ttl.too_large", "ttl.largest", "ttl.plain"},
			rows:    []string{"OK", "LeaseExist", "LeaseTTLTooLarge"},
			never:   []string{"id.in_use OK", "id.(zero|negative|chosen) LeaseExist", "ttl.too_large (OK|LeaseExist)", "ttl.(?!too_large) LeaseTTLTooLarge"}},
		{kind: kindLeaseRevoke, options: []string{"id.zero", "id.known", "id.negative", "id.unknown"}, rows: []string{"OK", "LeaseNotFound"},
			never: []string{"id.(zero|negative|unknown) OK", "id.known LeaseNotFound"}},
		{kind: kindKeepAlive, options: []string{"id.zero", "id.known", "id.negative", "id.unknown"}, rows: []string{"OK"}},
		{kind: kindTimeToLive, options: []string{"id.zero", "id.known", "id.negative", "id.unknown", "keys.true", "keys.false"}, rows: []string{"OK"}},
		{kind: kindLeases, options: []string{"leases.many"}, rows: []string{"OK"}},
		{kind: kindMemberList, options: []string{"linearizable.true", "linearizable.false"}, rows: []string{"OK"}},
		{kind: kindStatus, options: []string{"plain"}, rows: []string{"OK"}},
		{kind: kindHashKV, options: revisionOptions(), rows: []string{"OK", "Compacted", "FutureRev"},
			never: []string{"revision.(future|compacted) OK", "revision.(?!future) FutureRev", "revision.(?!compacted) Compacted"}},
		{kind: kindAlarm, options: []string{"get.none", "get.nospace", "get.corrupt", "get.invalid"}, rows: []string{"OK"}},
		{kind: kindWatchCreate,
			options: slices.Concat(keyOptions, revisionOptions(), []string{"filter.none", "filter.noput", "filter.nodelete", "filter.both", "filter.repeated", "filter.invalid",
				"prev_kv.true", "prev_kv.false", "fragment.true", "fragment.false", "progress_notify.true", "progress_notify.false", "id.auto", "id.chosen", "id.negative"}),
			rows: []string{"OK", "DuplicateID", "EmptyRange", "Negative", "Compacted"},
			never: []string{"revision.negative (?!Negative)", "revision.(?!negative) Negative", "key.inverted (OK|DuplicateID|Compacted)", "key.(?!inverted) EmptyRange",
				"revision.compacted OK", "revision.(?!compacted) Compacted", "id.auto DuplicateID"}},
		{kind: kindWatchCancel, options: []string{"id.open", "id.compacted"}, rows: []string{"Cancelled"}},
		{kind: kindWatchCancel, options: []string{"id.unknown"}, rows: []string{"Ignored"}},
		{kind: kindWatchAsk, options: []string{"watchers.synced"}, rows: []string{"Answered"}},
		{kind: kindWatchAsk, options: []string{"watchers.none", "watchers.future", "watchers.compacted"}, rows: []string{"Silent"}},
		{kind: "unknown", options: []string{"raw"}, rows: []string{"Unimplemented"}},
	}
	for _, kind := range rawKinds {
		list = append(list, raw(kind))
	}
	return list
}

// matchPart is a regular expression over a whole word, where "(?!a|b)" at some place stands for
// "none of these from here on".
func matchPart(pattern, word string) bool {
	if at := strings.Index(pattern, "(?!"); at >= 0 {
		head, list := pattern[:at], strings.TrimSuffix(pattern[at+3:], ")")
		loc := regexp.MustCompile("^(?:" + head + ")").FindStringIndex(word)
		return loc != nil && !regexp.MustCompile("^(?:"+list+")").MatchString(word[loc[1]:])
	}
	return regexp.MustCompile("^(?:" + pattern + ")$").MatchString(word)
}

func cells() []cell {
	var out []cell
	for _, s := range sections() {
		for _, row := range s.rows {
			for _, option := range s.options {
				never := slices.ContainsFunc(s.never, func(n string) bool {
					part := strings.Fields(n)
					return matchPart(part[0], option) && matchPart(part[1], row)
				})
				if !never {
					out = append(out, cell{s.kind, option, row})
				}
			}
		}
	}
	return out
}
