// Program clientscript is the shared client script on grpc-go. See tests/compat/clients/README.md
// for the cases.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

var (
	endpoint = flag.String("endpoint", "127.0.0.1:2379", "where the server is")
	pid      = flag.Int("pid", 0, "the server, for the SIGTERM case")
	old      = flag.Bool("old", false, "the server is etcd 3.5: no RangeStream, and Unknown for a stream past its deadline")
)

const (
	limitEntry   = 1536 << 10
	limitMessage = limitEntry + 512<<10
)

type script struct {
	conn  *grpc.ClientConn
	kv    pb.KVClient
	watch pb.WatchClient
	lease pb.LeaseClient
	ctx   context.Context
}

func wrong(format string, args ...any) error { return fmt.Errorf(format, args...) }

func (s *script) put(key, value string) (*pb.PutResponse, error) {
	return s.kv.Put(s.ctx, &pb.PutRequest{Key: []byte(key), Value: []byte(value)})
}

func refused(err error, code codes.Code, text string) error {
	if got := status.Convert(err); err == nil || got.Code() != code || got.Message() != text {
		return wrong("%v, not %v %q", err, code, text)
	}
	return nil
}

func (s *script) usable() error {
	got, err := s.kv.Range(s.ctx, &pb.RangeRequest{Key: []byte("none")})
	if err != nil || got.Count != 0 {
		return wrong("the connection is harmed: %v %v", got, err)
	}
	return nil
}

// open starts a Watch call with one watcher and takes its created response.
func (s *script) open(ctx context.Context, key string, start int64) (pb.Watch_WatchClient, error) {
	stream, err := s.watch.Watch(ctx)
	if err != nil {
		return nil, err
	}
	if err := stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{
		CreateRequest: &pb.WatchCreateRequest{Key: []byte(key), StartRevision: start}}}); err != nil {
		return nil, err
	}
	created, err := stream.Recv()
	if err == nil && (!created.Created || created.WatchId != 0) {
		err = wrong("created: %v", created)
	}
	return stream, err
}

func (s *script) unary() error {
	first, err := s.put("unary", "1")
	if err != nil {
		return err
	}
	second, err := s.kv.Put(s.ctx, &pb.PutRequest{Key: []byte("unary"), Value: []byte("2"), PrevKv: true})
	if err != nil {
		return err
	}
	if second.Header.Revision != first.Header.Revision+1 || string(second.PrevKv.GetValue()) != "1" {
		return wrong("the second put answers %v", second)
	}
	got, err := s.kv.Range(s.ctx, &pb.RangeRequest{Key: []byte("unary")})
	if err != nil {
		return err
	}
	if got.Count != 1 || string(got.Kvs[0].Value) != "2" || got.Kvs[0].ModRevision != second.Header.Revision {
		return wrong("range answers %v", got)
	}
	_, empty := s.kv.Range(s.ctx, &pb.RangeRequest{})
	_, future := s.kv.Range(s.ctx, &pb.RangeRequest{Key: []byte("a"), Revision: 1 << 40})
	_, lease := s.kv.Put(s.ctx, &pb.PutRequest{Key: []byte("a"), Lease: 12345})
	return errors.Join(
		refused(empty, codes.InvalidArgument, "etcdserver: key is not provided"),
		refused(future, codes.OutOfRange, "etcdserver: mvcc: required revision is a future revision"),
		refused(lease, codes.NotFound, "etcdserver: requested lease not found"))
}

func (s *script) serverStream() error {
	for i := range 100 {
		if _, err := s.put(fmt.Sprintf("stream/%03d", i), fmt.Sprint(i)); err != nil {
			return err
		}
	}
	stream, err := s.kv.RangeStream(s.ctx, &pb.RangeRequest{Key: []byte("stream/"), RangeEnd: []byte("stream0")})
	if err != nil {
		return err
	}
	var kvs []*mvccpb.KeyValue
	last, messages := &pb.RangeResponse{}, 0
	for {
		part, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if last.Header != nil || last.Count != 0 {
			return wrong("a header before the last message")
		}
		last = part.RangeResponse
		kvs = append(kvs, last.Kvs...)
		messages++
	}
	for i, kv := range kvs {
		if string(kv.Value) != fmt.Sprint(i) {
			return wrong("value %d is %q", i, kv.Value)
		}
	}
	if len(kvs) != 100 || last.Count != 100 || last.Header == nil || messages < 2 {
		return wrong("%d keys in %d messages, the last one %v", len(kvs), messages, last)
	}
	return nil
}

func (s *script) twoWayStream() error {
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	stream, err := s.open(ctx, "two-way", 0)
	if err != nil {
		return err
	}
	for i := range 200 {
		if _, err := s.put("two-way", fmt.Sprint(i)); err != nil {
			return err
		}
	}
	for seen := 0; seen < 200; {
		told, err := stream.Recv()
		if err != nil {
			return err
		}
		for _, e := range told.Events {
			if string(e.Kv.Value) != fmt.Sprint(seen) {
				return wrong("event %d is of %q", seen, e.Kv.Value)
			}
			seen++
		}
	}
	stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CancelRequest{CancelRequest: &pb.WatchCancelRequest{WatchId: 0}}})
	if answer, err := stream.Recv(); err != nil || !answer.Canceled {
		return wrong("cancelling answers %v %v", answer, err)
	}
	lease, err := s.lease.LeaseGrant(s.ctx, &pb.LeaseGrantRequest{TTL: 100})
	if err != nil {
		return err
	}
	keep, err := s.lease.LeaseKeepAlive(s.ctx)
	if err != nil {
		return err
	}
	for _, want := range []struct{ id, ttl int64 }{{lease.ID, 100}, {424242, 0}, {lease.ID, 100}} {
		keep.Send(&pb.LeaseKeepAliveRequest{ID: want.id})
		if answer, err := keep.Recv(); err != nil || answer.ID != want.id || answer.TTL != want.ttl {
			return wrong("keep-alive answers %v %v", answer, err)
		}
	}
	keep.CloseSend()
	if _, err := keep.Recv(); !errors.Is(err, io.EOF) {
		return wrong("keep-alive ends with %v", err)
	}
	return nil
}

func (s *script) deadline() error {
	ctx, cancel := context.WithTimeout(s.ctx, 500*time.Millisecond)
	defer cancel()
	stream, err := s.open(ctx, "deadline", 0)
	if err != nil {
		return err
	}
	start := time.Now()
	_, err = stream.Recv()
	if status.Code(err) != codes.DeadlineExceeded && !(*old && status.Code(err) == codes.Unknown) {
		return wrong("a watch past its deadline ends with %v", err)
	}
	if time.Since(start) > 5*time.Second {
		return wrong("the deadline came late")
	}
	for i := range 20 {
		short, cancel := context.WithTimeout(s.ctx, time.Duration(i)*10*time.Microsecond)
		_, err := s.kv.Range(short, &pb.RangeRequest{Key: []byte("none")})
		cancel()
		if err != nil && status.Code(err) != codes.DeadlineExceeded && !(*old && status.Code(err) == codes.Unknown) {
			return wrong("a read past its deadline ends with %v", err)
		}
	}
	return s.usable()
}

func (s *script) cancel() error {
	if _, err := s.put("cancel", string(make([]byte, 1000))); err != nil {
		return err
	}
	for range 50 {
		ctx, cancel := context.WithCancel(s.ctx)
		stream, err := s.open(ctx, "cancel", 1)
		if err == nil {
			_, err = stream.Recv()
		}
		cancel()
		if err != nil {
			return err
		}
		for err == nil {
			_, err = stream.Recv()
		}
		if status.Code(err) != codes.Canceled {
			return wrong("a cancelled watch ends with %v", err)
		}
	}
	return s.usable()
}

func (s *script) largeResponse() error {
	value := bytes.Repeat([]byte("0123456789abcdef"), 32<<10)
	for i := range 5 {
		if _, err := s.put(fmt.Sprintf("large/%d", i), string(value)); err != nil {
			return err
		}
	}
	got, err := s.kv.Range(s.ctx, &pb.RangeRequest{Key: []byte("large/"), RangeEnd: []byte("large0")})
	if err != nil {
		return err
	}
	for _, kv := range got.Kvs {
		if !bytes.Equal(kv.Value, value) {
			return wrong("a large answer is damaged")
		}
	}
	if len(got.Kvs) != 5 || proto.Size(got) < 2<<20 {
		return wrong("%d keys in %d bytes", len(got.Kvs), proto.Size(got))
	}
	return nil
}

func (s *script) sizeLimits() error {
	put := func(n int) error {
		_, err := s.kv.Put(s.ctx, &pb.PutRequest{Key: []byte("limit"), Value: make([]byte, n)})
		return err
	}
	const probe = limitMessage - 100 // as many bytes for its length as the real ones have
	empty := proto.Size(&pb.PutRequest{Key: []byte("limit"), Value: make([]byte, probe)}) - probe
	if err := put(limitEntry - 200); err != nil {
		return wrong("just below the limit: %v", err)
	}
	return errors.Join(
		refused(put(limitEntry), codes.InvalidArgument, "etcdserver: request is too large"),
		refused(put(limitMessage-empty), codes.InvalidArgument, "etcdserver: request is too large"),
		refused(put(limitMessage+1-empty), codes.ResourceExhausted,
			fmt.Sprintf("grpc: received message larger than max (%d vs. %d)", limitMessage+1, limitMessage)),
		s.usable())
}

func (s *script) manyStreams() error {
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	streams := make([]pb.Watch_WatchClient, 1000)
	for i := range streams {
		stream, err := s.open(ctx, "many", 0)
		if err != nil {
			return wrong("stream %d: %w", i, err)
		}
		streams[i] = stream
	}
	if _, err := s.put("many", "all of you"); err != nil {
		return err
	}
	for i, stream := range streams {
		told, err := stream.Recv()
		if err != nil || len(told.Events) != 1 || string(told.Events[0].Kv.Value) != "all of you" {
			return wrong("stream %d was told %v %v", i, told, err)
		}
	}
	return s.usable()
}

func (s *script) sigterm() error {
	stream, err := s.open(s.ctx, "sigterm", 0)
	if err != nil {
		return err
	}
	passed, last := make(chan int), make(chan error, 1)
	go func() {
		for i := 0; ; i++ {
			_, err := s.put("other", "x")
			if err != nil {
				last <- err
				return
			}
			if i == 20 {
				close(passed)
			}
		}
	}()
	select {
	case <-passed:
	case err := <-last:
		return wrong("a put before SIGTERM: %v", err)
	}
	if err := syscall.Kill(*pid, syscall.SIGTERM); err != nil {
		return err
	}
	for err == nil {
		_, err = stream.Recv()
	}
	if !errors.Is(err, io.EOF) && status.Code(err) != codes.Unavailable {
		return wrong("the open watch ends with %v", err)
	}
	select {
	case err := <-last:
		if status.Code(err) != codes.Unavailable {
			return wrong("the last put ends with %v", err)
		}
		return nil
	case <-time.After(30 * time.Second):
		return wrong("a put hangs after SIGTERM")
	}
}

func main() {
	flag.Parse()
	conn, err := grpc.NewClient("passthrough:///"+*endpoint, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(1<<30), grpc.MaxCallSendMsgSize(1<<30)))
	if err != nil {
		fmt.Println(err)
		os.Exit(2)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	s := &script{conn, pb.NewKVClient(conn), pb.NewWatchClient(conn), pb.NewLeaseClient(conn), ctx}
	cases := []struct {
		name string
		run  func() error
		skip bool
	}{
		{"unary", s.unary, false}, {"server_stream", s.serverStream, *old}, {"two_way_stream", s.twoWayStream, false},
		{"deadline", s.deadline, false}, {"cancel", s.cancel, false}, {"large_response", s.largeResponse, false},
		{"size_limits", s.sizeLimits, false}, {"many_streams", s.manyStreams, false}, {"sigterm", s.sigterm, *pid == 0},
	}
	passed, failed := 0, 0
	for _, c := range cases {
		if c.skip {
			continue
		}
		if err := c.run(); err != nil {
			failed++
			fmt.Printf("FAILED  %s: %v\n", c.name, err)
		} else {
			passed++
			fmt.Printf("ok      %s\n", c.name)
		}
	}
	fmt.Printf("grpc-go: %d passed, %d failed\n", passed, failed)
	if failed > 0 {
		os.Exit(1)
	}
}
