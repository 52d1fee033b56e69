package main

import (
	"bytes"
	"fmt"
	"os"
	"regexp"
	"slices"
	"sort"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// diff is one field in which two answers are not equal.
type diff struct {
	field string // path without indexes, e.g. kvs.lease
	a, b  string
}

// answer is what one side said to one step.
type answer struct {
	message proto.Message
	err     error
	extra   []fieldText // what is no part of the message, e.g. how a stream was cut into chunks
}

type fieldText struct{ field, text string }

func (w answer) String() string {
	if w.err != nil {
		return errorText(w.err)
	}
	if w.message == nil {
		return "(nothing)"
	}
	text := dump(w.message.ProtoReflect())
	for _, e := range w.extra {
		text += fmt.Sprintf(" %s=%s", e.field, e.text)
	}
	return text
}

func errorText(err error) string {
	s := status.Convert(err)
	return fmt.Sprintf("%s %q", s.Code(), cleanText(s.Message()))
}

// The Go protobuf library writes its error texts with either kind of space, chosen per binary, so
// that nobody relies on them.
func cleanText(s string) string { return strings.ReplaceAll(s, "\u00a0", " ") }

func compareAnswers(a, b answer) []diff {
	if a.err != nil || b.err != nil {
		sa, sb := status.Convert(a.err), status.Convert(b.err)
		var out []diff
		if sa.Code() != sb.Code() {
			out = append(out, diff{"code", sa.Code().String(), sb.Code().String()})
		}
		if ta, tb := cleanText(sa.Message()), cleanText(sb.Message()); ta != tb {
			out = append(out, diff{"message", ta, tb})
		}
		if len(sa.Details()) != len(sb.Details()) {
			out = append(out, diff{"details", fmt.Sprint(sa.Details()), fmt.Sprint(sb.Details())})
		}
		return out
	}
	var out []diff
	compareMessages("", a.message.ProtoReflect(), b.message.ProtoReflect(), &out)
	for i := range max(len(a.extra), len(b.extra)) {
		switch {
		case i >= len(a.extra) || i >= len(b.extra):
			out = append(out, diff{"extra", fmt.Sprint(a.extra), fmt.Sprint(b.extra)})
			return out
		case a.extra[i] != b.extra[i]:
			out = append(out, diff{a.extra[i].field, a.extra[i].text, b.extra[i].text})
		}
	}
	return out
}

func compareMessages(path string, a, b protoreflect.Message, out *[]diff) {
	if a.IsValid() != b.IsValid() {
		*out = append(*out, diff{strings.TrimPrefix(path, "."), presence(a), presence(b)})
		return
	}
	fields := a.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		at := path + "." + string(f.Name())
		name := strings.TrimPrefix(at, ".")
		va, vb := a.Get(f), b.Get(f)
		switch {
		case f.IsList():
			la, lb := va.List(), vb.List()
			if la.Len() != lb.Len() {
				*out = append(*out, diff{name + ".length", listText(f, la), listText(f, lb)})
				continue
			}
			for j := range la.Len() {
				compareValues(at, f, la.Get(j), lb.Get(j), out)
			}
		case f.HasPresence() && a.Has(f) != b.Has(f):
			*out = append(*out, diff{name, has(a.Has(f), f, va), has(b.Has(f), f, vb)})
		default:
			compareValues(at, f, va, vb, out)
		}
	}
	if !bytes.Equal(a.GetUnknown(), b.GetUnknown()) {
		*out = append(*out, diff{strings.TrimPrefix(path+".unknown", "."), shortBytes(a.GetUnknown()), shortBytes(b.GetUnknown())})
	}
}

func compareValues(at string, f protoreflect.FieldDescriptor, a, b protoreflect.Value, out *[]diff) {
	if f.Message() != nil {
		compareMessages(at, a.Message(), b.Message(), out)
		return
	}
	if !a.Equal(b) {
		*out = append(*out, diff{strings.TrimPrefix(at, "."), valueText(f, a), valueText(f, b)})
	}
}

func valueText(f protoreflect.FieldDescriptor, v protoreflect.Value) string {
	var b strings.Builder
	dumpValue(&b, f, v)
	return b.String()
}

func listText(f protoreflect.FieldDescriptor, l protoreflect.List) string {
	texts := make([]string, 0, l.Len())
	for i := range min(l.Len(), 8) {
		texts = append(texts, valueText(f, l.Get(i)))
	}
	return fmt.Sprintf("%d [%s]", l.Len(), strings.Join(texts, " "))
}

func presence(m protoreflect.Message) string {
	if m.IsValid() {
		return "set"
	}
	return "absent"
}

func has(yes bool, f protoreflect.FieldDescriptor, v protoreflect.Value) string {
	if !yes {
		return "absent"
	}
	return valueText(f, v)
}

// normalise removes what may rightly differ between two servers that behave the same.
func normalise(request proto.Message, m proto.Message) {
	switch r := m.(type) {
	case *pb.StatusResponse:
		r.DbSize, r.DbSizeInUse = 0, 0
		r.RaftIndex, r.RaftAppliedIndex = 0, 0
	case *pb.LeaseTimeToLiveResponse:
		slices.SortFunc(r.Keys, bytes.Compare) // a set: real servers answer in map order
	case *pb.RangeResponse:
		if q, ok := request.(*pb.RangeRequest); ok {
			normaliseTies(q, r)
		}
	case *pb.TxnResponse:
		if q, ok := request.(*pb.TxnRequest); ok {
			normaliseTxn(q, r)
		}
	}
}

func normaliseTxn(q *pb.TxnRequest, r *pb.TxnResponse) {
	ops := q.Failure
	if r.Succeeded {
		ops = q.Success
	}
	for i := range min(len(ops), len(r.Responses)) {
		if rq, rr := ops[i].GetRequestRange(), r.Responses[i].GetResponseRange(); rq != nil && rr != nil {
			normaliseTies(rq, rr)
		}
		if tq, tr := ops[i].GetRequestTxn(), r.Responses[i].GetResponseTxn(); tq != nil && tr != nil {
			normaliseTxn(tq, tr)
		}
	}
}

// stableSortCount is how many keys Go's sort still keeps in order when they compare equal (12, but 6
// in the Go that made etcd 3.5.1). Above it the order of ties is nobody's promise: such answers are compared with ties brought into key
// order, and where a limit cuts through a tie the cut group is left out.
var stableSortCount int64 = 12

func normaliseTies(q *pb.RangeRequest, r *pb.RangeResponse) {
	if q.SortTarget == pb.RangeRequest_KEY || r.Count <= stableSortCount || len(r.Kvs) == 0 {
		return
	}
	same := func(x, y *mvccpb.KeyValue) bool {
		switch q.SortTarget {
		case pb.RangeRequest_VERSION:
			return x.Version == y.Version
		case pb.RangeRequest_CREATE:
			return x.CreateRevision == y.CreateRevision
		case pb.RangeRequest_MOD:
			return x.ModRevision == y.ModRevision
		case pb.RangeRequest_VALUE:
			return q.KeysOnly || bytes.Equal(x.Value, y.Value)
		}
		return false
	}
	byKey := func(x, y *mvccpb.KeyValue) int { return bytes.Compare(x.Key, y.Key) }
	start := 0
	for i := 1; i <= len(r.Kvs); i++ {
		if i < len(r.Kvs) && same(r.Kvs[i], r.Kvs[start]) {
			continue
		}
		if i == len(r.Kvs) && r.More {
			for j := start; j < i; j++ {
				r.Kvs[j] = &mvccpb.KeyValue{}
			}
		}
		slices.SortStableFunc(r.Kvs[start:i], byKey)
		start = i
	}
}

// rule is one row of differences.md.
type rule struct {
	id                          string
	oracle, kind, option, field *regexp.Regexp
	a, b                        *regexp.Regexp
	skip                        bool
	behaviour                   string
	used                        int
}

type rules []*rule

// readRules takes the rows of every table in a Markdown file whose header starts with "| id |".
func readRules(path, oracleVersion string) rules {
	data, err := os.ReadFile(path)
	if err != nil {
		fatal("%v", err)
	}
	var out rules
	inside := false
	for number, line := range strings.Split(string(data), "\n") {
		if !strings.HasPrefix(line, "|") {
			inside = false
			continue
		}
		cells := splitRow(line)
		if !inside {
			inside = len(cells) == 8 && cells[0] == "id"
			continue
		}
		if strings.HasPrefix(cells[0], "-") {
			continue
		}
		if len(cells) != 8 || cells[7] == "" {
			fatal("%s:%d: a difference needs eight columns, the last one its reason", path, number+1)
		}
		r := &rule{id: cells[0], skip: cells[4] == "skip", behaviour: cells[4]}
		for i, target := range []**regexp.Regexp{&r.oracle, &r.kind, &r.option, &r.field, &r.a, &r.b} {
			expression, err := regexp.Compile("^(?:" + cells[i+1] + ")$")
			if err != nil {
				fatal("%s:%d: %v", path, number+1, err)
			}
			if cells[i+1] == "" {
				expression = regexp.MustCompile("")
			}
			*target = expression
		}
		if r.oracle.MatchString(oracleVersion) {
			out = append(out, r)
		}
	}
	return out
}

func splitRow(line string) []string {
	line = strings.Trim(strings.TrimSpace(line), "|")
	line = strings.ReplaceAll(line, `\|`, "\x00")
	cells := strings.Split(line, "|")
	for i, c := range cells {
		cells[i] = strings.Trim(strings.ReplaceAll(strings.TrimSpace(c), "\x00", "|"), "`")
	}
	return cells
}

func (r *rule) about(kind string, options []string) bool {
	return r.kind.MatchString(kind) && (r.option.String() == "" || slices.ContainsFunc(options, r.option.MatchString))
}

func (rs rules) skips(kind string, options []string) bool {
	for _, r := range rs {
		if r.skip && r.about(kind, options) {
			r.used++
			return true
		}
	}
	return false
}

// has tells whether a rule names a behaviour that the driver itself has to make up for.
func (rs rules) has(behaviour string) bool {
	for _, r := range rs {
		if r.behaviour == behaviour {
			r.used++
			return true
		}
	}
	return false
}

// unexplained keeps the differences that no rule allows.
func (rs rules) unexplained(kind string, options []string, diffs []diff) []diff {
	return slices.DeleteFunc(diffs, func(d diff) bool {
		for _, r := range rs {
			if !r.skip && r.about(kind, options) && r.field.MatchString(d.field) && r.a.MatchString(d.a) && r.b.MatchString(d.b) {
				r.used++
				return true
			}
		}
		return false
	})
}

func diffText(diffs []diff) string {
	var b strings.Builder
	for i, d := range diffs {
		if i == 12 {
			fmt.Fprintf(&b, "    … %d more\n", len(diffs)-i)
			break
		}
		fmt.Fprintf(&b, "    %s: %s | %s\n", d.field, d.a, d.b)
	}
	return b.String()
}

func signature(kind string, diffs []diff) string {
	fields := make([]string, 0, len(diffs))
	for _, d := range diffs {
		if d.field == "code" || d.field == "message" {
			fields = append(fields, d.field+"="+d.a+"/"+d.b)
		} else {
			fields = append(fields, d.field)
		}
	}
	sort.Strings(fields)
	return kind + " " + strings.Join(slices.Compact(fields), " ")
}
