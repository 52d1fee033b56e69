package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
)

const callTimeout = 30 * time.Second

// side is one of the two servers together with everything open on it.
type side struct {
	*server
	conn    *grpc.ClientConn
	version string
	notify  chan struct{} // something arrived on a stream of this side
	streams map[int]*watchStream
	history *watchStream
	keep    pb.Lease_LeaseKeepAliveClient
	context context.Context
	cancel  context.CancelFunc
}

func openSide(s *server) (*side, error) {
	conn, err := s.connect()
	if err != nil {
		return nil, err
	}
	status, err := pb.NewMaintenanceClient(conn).Status(context.Background(), &pb.StatusRequest{})
	if err != nil {
		return nil, err
	}
	w := &side{server: s, conn: conn, version: status.Version, notify: make(chan struct{}, 1), streams: map[int]*watchStream{}}
	w.context, w.cancel = context.WithCancel(context.Background())
	if w.history, err = w.openWatch(); err != nil {
		return nil, err
	}
	// Everything that ever happens, to know what each watcher has to be told.
	return w, w.history.send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{
		CreateRequest: &pb.WatchCreateRequest{Key: []byte{0}, RangeEnd: []byte{0}, StartRevision: 1}}})
}

func (w *side) close() {
	w.cancel()
	w.conn.Close()
}

var unaryMethods = map[string]string{
	kindRange:       pb.KV_Range_FullMethodName,
	kindPut:         pb.KV_Put_FullMethodName,
	kindDeleteRange: pb.KV_DeleteRange_FullMethodName,
	kindTxn:         pb.KV_Txn_FullMethodName,
	kindCompact:     pb.KV_Compact_FullMethodName,
	kindLeaseGrant:  pb.Lease_LeaseGrant_FullMethodName,
	kindLeaseRevoke: pb.Lease_LeaseRevoke_FullMethodName,
	kindTimeToLive:  pb.Lease_LeaseTimeToLive_FullMethodName,
	kindLeases:      pb.Lease_LeaseLeases_FullMethodName,
	kindMemberList:  pb.Cluster_MemberList_FullMethodName,
	kindStatus:      pb.Maintenance_Status_FullMethodName,
	kindHashKV:      pb.Maintenance_HashKV_FullMethodName,
	kindAlarm:       pb.Maintenance_Alarm_FullMethodName,
}

func newResponse(kind string) proto.Message {
	switch kind {
	case kindRange, kindRangeStream:
		return &pb.RangeResponse{}
	case kindPut:
		return &pb.PutResponse{}
	case kindDeleteRange:
		return &pb.DeleteRangeResponse{}
	case kindTxn:
		return &pb.TxnResponse{}
	case kindCompact:
		return &pb.CompactionResponse{}
	case kindLeaseGrant:
		return &pb.LeaseGrantResponse{}
	case kindLeaseRevoke:
		return &pb.LeaseRevokeResponse{}
	case kindTimeToLive:
		return &pb.LeaseTimeToLiveResponse{}
	case kindLeases:
		return &pb.LeaseLeasesResponse{}
	case kindMemberList:
		return &pb.MemberListResponse{}
	case kindStatus:
		return &pb.StatusResponse{}
	case kindHashKV:
		return &pb.HashKVResponse{}
	case kindAlarm:
		return &pb.AlarmResponse{}
	}
	return nil
}

func (w *side) unary(kind string, request proto.Message) answer {
	ctx, cancel := context.WithTimeout(w.context, callTimeout)
	defer cancel()
	response := newResponse(kind)
	err := w.conn.Invoke(ctx, unaryMethods[kind], request, response)
	return answer{message: response, err: err}
}

// swept waits for the end of a compaction's sweep. From then on a server answers HashKV of that
// revision with the hash it took while sweeping, which names the compaction before as its own: asked
// earlier, it computes another one. Releases up to 3.5.1 keep no such hash.
func (w *side) swept(revision int64) bool {
	if oldVersion(w.version) {
		return true
	}
	for until := time.Now().Add(sweepTimeout); time.Now().Before(until); time.Sleep(time.Millisecond) {
		got := w.unary(kindHashKV, &pb.HashKVRequest{Revision: revision})
		if got.err != nil {
			return false
		}
		if got.message.(*pb.HashKVResponse).CompactRevision != revision {
			return true
		}
	}
	return false
}

const sweepTimeout = 300 * time.Millisecond

// rangeStream merges the chunks as a client does and also tells how they were cut.
func (w *side) rangeStream(request *pb.RangeRequest) answer {
	ctx, cancel := context.WithTimeout(w.context, callTimeout)
	defer cancel()
	stream, err := pb.NewKVClient(w.conn).RangeStream(ctx, request)
	if err != nil {
		return answer{err: err}
	}
	merged := &pb.RangeResponse{}
	var sizes, early string
	for chunk := 0; ; chunk++ {
		message, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return answer{message: merged, extra: []fieldText{{"chunks", sizes}, {"fields before the last chunk", early}}}
		}
		if err != nil {
			return answer{err: err}
		}
		part := message.GetRangeResponse()
		if merged.Header != nil || merged.More || merged.Count != 0 {
			early = "yes"
		}
		sizes += fmt.Sprintf("%d ", len(part.GetKvs()))
		proto.Merge(merged, part)
	}
}

func (w *side) keepAlive(request *pb.LeaseKeepAliveRequest) answer {
	if w.keep == nil {
		stream, err := pb.NewLeaseClient(w.conn).LeaseKeepAlive(w.context)
		if err != nil {
			return answer{err: err}
		}
		w.keep = stream
	}
	stream := w.keep
	if err := stream.Send(request); err != nil {
		w.keep = nil
		return answer{err: err}
	}
	done := make(chan answer, 1)
	go func() {
		response, err := stream.Recv()
		done <- answer{message: response, err: err}
	}()
	select {
	case got := <-done:
		if got.err != nil {
			w.keep = nil
		}
		return got
	case <-time.After(callTimeout):
		w.keep = nil
		return answer{err: errors.New("no answer to a keep-alive")}
	}
}

// rawCodec passes bytes through, so that a request can be anything.
type rawCodec struct{}

func (rawCodec) Name() string { return "proto" }
func (rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(*v.(*[]byte))}, nil
}
func (rawCodec) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*[]byte) = data.Materialize()
	return nil
}

var _ encoding.CodecV2 = rawCodec{}

func (w *side) raw(method string, body []byte, clientStreams bool) ([]byte, error) {
	ctx, cancel := context.WithTimeout(w.context, callTimeout)
	defer cancel()
	var out []byte
	if !clientStreams {
		err := w.conn.Invoke(ctx, method, &body, &out, grpc.ForceCodecV2(rawCodec{}))
		return out, err
	}
	stream, err := w.conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, method, grpc.ForceCodecV2(rawCodec{}))
	if err != nil {
		return nil, err
	}
	if err := stream.SendMsg(&body); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	stream.CloseSend()
	err = stream.RecvMsg(&out)
	return out, err
}

// watchStream is one Watch call and all it has been told so far.
type watchStream struct {
	stream pb.Watch_WatchClient
	cancel context.CancelFunc

	mu        sync.Mutex
	created   []*pb.WatchResponse
	progress  []*pb.WatchResponse
	slots     []*slot // one per watcher that was really created, in that order
	byID      map[int64]*slot
	strays    []*pb.WatchResponse // cancelled responses for ids that are no longer open
	problems  []string
	lost      int64 // deletions at this revision are not told by one of the two servers: leave them out
	err       error
	fragments int
}

// slot is what one watcher has been told.
type slot struct {
	id        int64
	events    []*mvccpb.Event
	cancelled *pb.WatchResponse
	lost      int64
	fragment  bool // the last message announced more of the same revision
}

func (w *side) openWatch() (*watchStream, error) {
	ctx, cancel := context.WithCancel(w.context)
	stream, err := pb.NewWatchClient(w.conn).Watch(ctx)
	if err != nil {
		cancel()
		return nil, err
	}
	s := &watchStream{stream: stream, cancel: cancel, byID: map[int64]*slot{}}
	go func() {
		for {
			response, err := stream.Recv()
			s.mu.Lock()
			if err != nil {
				s.err = err
			} else {
				s.take(response)
			}
			s.mu.Unlock()
			select {
			case w.notify <- struct{}{}:
			default:
			}
			if err != nil {
				return
			}
		}
	}()
	return s, nil
}

func (s *watchStream) send(r *pb.WatchRequest) error { return s.stream.Send(r) }

func (s *watchStream) problem(format string, args ...any) {
	s.problems = append(s.problems, fmt.Sprintf(format, args...))
}

// take files one response. What it checks needs no second server.
func (s *watchStream) take(r *pb.WatchResponse) {
	if r.Fragment {
		s.fragments++
	}
	switch {
	case r.Created:
		s.created = append(s.created, r)
		if !r.Canceled {
			if s.byID[r.WatchId] != nil {
				s.problem("id %d created while it is in use", r.WatchId)
			}
			w := &slot{id: r.WatchId, lost: s.lost}
			s.slots = append(s.slots, w)
			s.byID[r.WatchId] = w
		}
		if len(r.Events) > 0 {
			s.problem("created response of %d carries events", r.WatchId)
		}
		return
	case r.WatchId == -1 && !r.Canceled && len(r.Events) == 0:
		s.progress = append(s.progress, r)
		return
	}
	w := s.byID[r.WatchId]
	if w == nil && r.Canceled && len(r.Events) == 0 {
		s.strays = append(s.strays, r)
		return
	}
	if w == nil {
		s.problem("message for id %d, which is not open: %s", r.WatchId, dump(r.ProtoReflect()))
		return
	}
	if r.Canceled {
		w.cancelled = r
		delete(s.byID, r.WatchId)
		if len(r.Events) > 0 {
			s.problem("cancelled response of %d carries events", r.WatchId)
		}
		return
	}
	if len(r.Events) == 0 {
		s.problem("message without events for id %d: %s", r.WatchId, dump(r.ProtoReflect()))
		return
	}
	first, last := r.Events[0].Kv.ModRevision, r.Events[len(r.Events)-1].Kv.ModRevision
	if n := len(w.events); n > 0 && w.events[n-1].Kv.ModRevision == first && !w.fragment {
		s.problem("revision %d of id %d split over two messages", first, r.WatchId)
	}
	if r.Header.GetRevision() < last {
		s.problem("header revision %d below event revision %d for id %d", r.Header.GetRevision(), last, r.WatchId)
	}
	w.fragment = r.Fragment
	for _, e := range r.Events {
		if e.Type != mvccpb.Event_DELETE || e.Kv.ModRevision != w.lost {
			w.events = append(w.events, e)
		}
	}
}
