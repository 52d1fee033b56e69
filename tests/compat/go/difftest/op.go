package main

import (
	"encoding/base64"
	"fmt"
	"sort"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Op is one step of a run. It holds no pointer and no absolute revision, so a step means the
// same when steps before it are taken away: that is what makes shrinking work.
type Op struct {
	Kind    string `json:"kind"`
	Req     []byte `json:"req,omitempty"`    // wire form; revisions may be symbols, see below
	Method  string `json:"method,omitempty"` // Kind raw: full method name
	Client  bool   `json:"client_stream,omitempty"`
	Mutated bool   `json:"mutated,omitempty"` // Kind raw: a damaged request, which may be legal still
	Stream  int    `json:"stream,omitempty"`  // watch kinds: which stream
	Watch   int    `json:"watch,omitempty"`   // watch.cancel: which of the stream's open watchers
}

// Values of Watch that name no open watcher.
const (
	cancelsID        = -1 // the id that the request holds
	cancelsCompacted = -2 // the newest one that was cancelled as compacted
)

// Kinds of steps. The unary ones carry a request of the type that kindRequest names.
const (
	kindRange       = "Range"
	kindRangeStream = "RangeStream"
	kindPut         = "Put"
	kindDeleteRange = "DeleteRange"
	kindTxn         = "Txn"
	kindCompact     = "Compact"
	kindLeaseGrant  = "LeaseGrant"
	kindLeaseRevoke = "LeaseRevoke"
	kindKeepAlive   = "LeaseKeepAlive"
	kindTimeToLive  = "LeaseTimeToLive"
	kindLeases      = "LeaseLeases"
	kindMemberList  = "MemberList"
	kindStatus      = "Status"
	kindHashKV      = "HashKV"
	kindAlarm       = "Alarm"
	kindRaw         = "raw"
	kindWatchCreate = "Watch"
	kindWatchCancel = "Watch.cancel"
	kindWatchAsk    = "Watch.progress"
	kindWatchClose  = "Watch.close"
	kindSettle      = "settle"
)

func newRequest(kind string) proto.Message {
	switch kind {
	case kindRange, kindRangeStream:
		return &pb.RangeRequest{}
	case kindPut:
		return &pb.PutRequest{}
	case kindDeleteRange:
		return &pb.DeleteRangeRequest{}
	case kindTxn:
		return &pb.TxnRequest{}
	case kindCompact:
		return &pb.CompactionRequest{}
	case kindLeaseGrant:
		return &pb.LeaseGrantRequest{}
	case kindLeaseRevoke:
		return &pb.LeaseRevokeRequest{}
	case kindKeepAlive:
		return &pb.LeaseKeepAliveRequest{}
	case kindTimeToLive:
		return &pb.LeaseTimeToLiveRequest{}
	case kindLeases:
		return &pb.LeaseLeasesRequest{}
	case kindMemberList:
		return &pb.MemberListRequest{}
	case kindStatus:
		return &pb.StatusRequest{}
	case kindHashKV:
		return &pb.HashKVRequest{}
	case kindAlarm:
		return &pb.AlarmRequest{}
	case kindWatchCreate:
		return &pb.WatchCreateRequest{}
	case kindWatchCancel:
		return &pb.WatchCancelRequest{}
	case kindWatchAsk:
		return &pb.WatchProgressRequest{}
	}
	return nil
}

func (o *Op) request() proto.Message {
	m := newRequest(o.Kind)
	if m != nil {
		if err := proto.Unmarshal(o.Req, m); err != nil {
			panic(fmt.Sprintf("step %s does not decode: %v", o.Kind, err))
		}
	}
	return m
}

func newOp(kind string, m proto.Message) Op {
	return Op{Kind: kind, Req: marshal(m)}
}

func marshal(m proto.Message) []byte {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		panic(err)
	}
	return b
}

// Symbolic revisions: an int64 near one of these bases stands for a place in the history and is
// replaced when the step runs. No legal request holds such numbers otherwise.
const (
	symbolCurrent = int64(1) << 61 // the newest revision
	symbolCompact = int64(1) << 60 // the compacted revision
	symbolBetween = int64(1) << 59 // k thousandths of the way from compacted to newest
	symbolWindow  = int64(1) << 20
)

type history struct {
	current, compact int64
}

func (h history) resolve(v int64) int64 {
	near := func(base int64) bool { return v > base-symbolWindow && v < base+symbolWindow }
	switch {
	case near(symbolCurrent):
		return h.current + v - symbolCurrent
	case near(symbolCompact):
		return max(h.compact, 0) + v - symbolCompact
	case near(symbolBetween):
		low := max(h.compact, 1)
		return low + (h.current-low)*(v-symbolBetween)/1000
	}
	return v
}

func symbolText(v int64) string {
	near := func(base int64) bool { return v > base-symbolWindow && v < base+symbolWindow }
	switch {
	case near(symbolCurrent):
		return fmt.Sprintf("current%+d", v-symbolCurrent)
	case near(symbolCompact):
		return fmt.Sprintf("compacted%+d", v-symbolCompact)
	case near(symbolBetween):
		return fmt.Sprintf("between %d/1000", v-symbolBetween)
	}
	return fmt.Sprint(v)
}

// resolveMessage replaces every symbol in m, nested messages included.
func resolveMessage(m protoreflect.Message, h history) {
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.IsList() && f.Message() != nil:
			for i := 0; i < v.List().Len(); i++ {
				resolveMessage(v.List().Get(i).Message(), h)
			}
		case f.IsList():
		case f.Message() != nil:
			resolveMessage(v.Message(), h)
		case f.Kind() == protoreflect.Int64Kind:
			if old := v.Int(); h.resolve(old) != old {
				m.Set(f, protoreflect.ValueOfInt64(h.resolve(old)))
			}
		}
		return true
	})
}

// dump writes a message on one line, fields in number order, bytes quoted, absent fields left out.
func dump(m protoreflect.Message) string {
	var b strings.Builder
	dumpInto(&b, m)
	return b.String()
}

func dumpInto(b *strings.Builder, m protoreflect.Message) {
	b.WriteByte('{')
	first := true
	for _, f := range setFields(m) {
		if !first {
			b.WriteByte(' ')
		}
		first = false
		b.WriteString(string(f.Name()))
		b.WriteByte(':')
		v := m.Get(f)
		if !f.IsList() {
			dumpValue(b, f, v)
			continue
		}
		b.WriteByte('[')
		for i := 0; i < v.List().Len(); i++ {
			if i > 0 {
				b.WriteByte(' ')
			}
			if i == 20 {
				fmt.Fprintf(b, "… %d more", v.List().Len()-i)
				break
			}
			dumpValue(b, f, v.List().Get(i))
		}
		b.WriteByte(']')
	}
	if unknown := m.GetUnknown(); len(unknown) > 0 {
		fmt.Fprintf(b, " unknown:%s", shortBytes(unknown))
	}
	b.WriteByte('}')
}

func dumpValue(b *strings.Builder, f protoreflect.FieldDescriptor, v protoreflect.Value) {
	switch f.Kind() {
	case protoreflect.MessageKind:
		dumpInto(b, v.Message())
	case protoreflect.BytesKind:
		b.WriteString(shortBytes(v.Bytes()))
	case protoreflect.StringKind:
		fmt.Fprintf(b, "%q", v.String())
	case protoreflect.Int64Kind:
		b.WriteString(symbolText(v.Int()))
	case protoreflect.EnumKind:
		if e := f.Enum().Values().ByNumber(v.Enum()); e != nil {
			b.WriteString(string(e.Name()))
		} else {
			fmt.Fprintf(b, "%d", v.Enum())
		}
	default:
		b.WriteString(v.String())
	}
}

func shortBytes(v []byte) string {
	if len(v) > 64 {
		return fmt.Sprintf("%q…(%d bytes)", v[:24], len(v))
	}
	return fmt.Sprintf("%q", v)
}

func setFields(m protoreflect.Message) []protoreflect.FieldDescriptor {
	var fields []protoreflect.FieldDescriptor
	m.Range(func(f protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
		fields = append(fields, f)
		return true
	})
	sort.Slice(fields, func(i, j int) bool { return fields[i].Number() < fields[j].Number() })
	return fields
}

func (o *Op) String() string {
	switch o.Kind {
	case kindRaw:
		body := o.Req
		text := base64.StdEncoding.EncodeToString(body)
		if len(text) > 120 {
			text = fmt.Sprintf("%s…(%d bytes)", text[:60], len(body))
		}
		return fmt.Sprintf("raw %s body(base64)=%s", o.Method, text)
	case kindWatchCreate:
		return fmt.Sprintf("Watch on stream %d create%s", o.Stream, dump(o.request().ProtoReflect()))
	case kindWatchCancel:
		if o.Watch == cancelsCompacted {
			return fmt.Sprintf("Watch on stream %d cancel the watcher last cancelled as compacted", o.Stream)
		}
		if o.Watch < 0 {
			return fmt.Sprintf("Watch on stream %d cancel%s", o.Stream, dump(o.request().ProtoReflect()))
		}
		return fmt.Sprintf("Watch on stream %d cancel open watcher number %d", o.Stream, o.Watch)
	case kindWatchAsk, kindWatchClose, kindSettle:
		return fmt.Sprintf("%s stream %d", o.Kind, o.Stream)
	}
	return o.Kind + dump(o.request().ProtoReflect())
}
