package main

import (
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/encoding/protowire"
)

// rawKinds are the RPCs that get bytes which are no message.
var rawKinds = []string{kindRange, kindRangeStream, kindPut, kindDeleteRange, kindTxn, kindCompact, kindLeaseGrant, kindLeaseRevoke,
	kindTimeToLive, kindLeases, kindMemberList, kindStatus, kindHashKV, kindAlarm, kindKeepAlive, kindWatchCreate}

func rawMethod(kind string) (method string, client bool) {
	switch kind {
	case kindRangeStream:
		return pb.KV_RangeStream_FullMethodName, true
	case kindKeepAlive:
		return pb.Lease_LeaseKeepAlive_FullMethodName, true
	case kindWatchCreate:
		return pb.Watch_Watch_FullMethodName, true
	}
	return unaryMethods[kind], false
}

func rawKind(method string) (kind string, ok bool) {
	for _, kind := range rawKinds {
		if name, _ := rawMethod(kind); name == method {
			return kind, true
		}
	}
	return "unknown", false
}

// broken makes a body that no reader may take, or one larger than a message may be.
func (g *generator) broken(kind, row string) (Op, bool) {
	method, client := rawMethod(kind)
	op := Op{Kind: kindRaw, Method: method, Client: client}
	if row == "MessageTooLarge" {
		op.Req = protowire.AppendTag(nil, 15, protowire.BytesType)
		op.Req = protowire.AppendBytes(op.Req, make([]byte, 2<<20+g.Intn(10)))
		return op, true
	}
	op.Req = pick(g, [][]byte{
		{0x0a, 0x05, 'a'}, // a length beyond the end
		{0x0a},            // a tag and nothing more
		{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01}, // a number of eleven bytes
		{0x00, 0x01},       // field number 0
		{0x0f, 0x01},       // wire type 7
		{0x0b, 0x08, 0x01}, // a group that does not end
		{0x0c},             // a group that ends without a start
		{0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f}, // a length of 2^63
		{0x09, 1, 2, 3}, // eight bytes of which three are there
	})
	return op, true
}

// mutated takes a legal request and damages its bytes: what comes out may be legal still, with
// unknown fields, fields twice or out of order. Only requests whose effect is the same on both
// sides and that end by themselves.
func (g *generator) mutated() Op {
	kind := pick(g, []string{kindRange, kindPut, kindDeleteRange, kindTxn, kindTxn, kindLeaseRevoke, kindTimeToLive, kindHashKV, kindMemberList, kindLeases})
	m := g.request(kind, "", "OK")
	resolveMessage(m.ProtoReflect(), g.pair.history)
	body := marshal(m)
	if len(body) == 0 {
		body = []byte{0x08, 0x00}
	}
	for range 1 + g.Intn(3) {
		switch g.Intn(7) {
		case 0: // one bit
			i := g.Intn(len(body))
			body[i] ^= 1 << g.Intn(8)
		case 1: // cut
			body = body[:g.Intn(len(body))+1]
		case 2: // a second time: the last value of a field counts
			body = append(body, body...)
		case 3: // another request of the kind behind it
			other := g.request(kind, "", "OK")
			resolveMessage(other.ProtoReflect(), g.pair.history)
			body = append(body, marshal(other)...)
		case 4: // fields nobody knows, in every wire type
			body = protowire.AppendTag(body, protowire.Number(100+g.Intn(1000)), protowire.VarintType)
			body = protowire.AppendVarint(body, g.Uint64())
			body = protowire.AppendTag(body, protowire.Number(100+g.Intn(1000)), protowire.Fixed32Type)
			body = protowire.AppendFixed32(body, g.Uint32())
			body = protowire.AppendTag(body, 500, protowire.StartGroupType)
			body = protowire.AppendTag(body, 501, protowire.VarintType)
			body = protowire.AppendVarint(body, 1)
			body = protowire.AppendTag(body, 500, protowire.EndGroupType)
		case 5: // a known field with another wire type
			body = protowire.AppendTag(body, protowire.Number(1+g.Intn(8)), protowire.Fixed64Type)
			body = protowire.AppendFixed64(body, g.Uint64())
		case 6: // a number written in more bytes than it needs
			body = protowire.AppendTag(body, protowire.Number(3+g.Intn(6)), protowire.VarintType)
			body = append(body, 0x81, 0x80, 0x80, 0x00)
		}
		if len(body) > 100_000 {
			break
		}
	}
	method, client := rawMethod(kind)
	return Op{Kind: kindRaw, Method: method, Client: client, Req: body, Mutated: true}
}

func init() {
	for _, kind := range rawKinds {
		if method, _ := rawMethod(kind); !strings.HasPrefix(method, "/etcdserverpb.") {
			panic("no method for " + kind)
		}
	}
}
