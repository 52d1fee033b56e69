package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"etchd/tests/compat/internal/scenario"
)

// network dials for a client, and can take an address away from it.
type network struct {
	lock   sync.Mutex
	open   map[string][]net.Conn
	down   map[string]bool
	dialed map[string]int
}

func newNetwork() *network {
	return &network{open: map[string][]net.Conn{}, down: map[string]bool{}, dialed: map[string]int{}}
}

func (n *network) dial(ctx context.Context, address string) (net.Conn, error) {
	address = strings.TrimPrefix(address, "passthrough:///")
	n.lock.Lock()
	n.dialed[address]++
	down := n.down[address]
	n.lock.Unlock()
	if down {
		return nil, errors.New("this address is taken away")
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err == nil {
		n.lock.Lock()
		n.open[address] = append(n.open[address], conn)
		n.lock.Unlock()
	}
	return conn, err
}

func (n *network) take(address string) {
	n.lock.Lock()
	defer n.lock.Unlock()
	n.down[address] = true
	for _, conn := range n.open[address] {
		conn.Close()
	}
	delete(n.open, address)
}

func (n *network) give(address string) {
	n.lock.Lock()
	defer n.lock.Unlock()
	delete(n.down, address)
}

func (n *network) tried(address string) int {
	n.lock.Lock()
	defer n.lock.Unlock()
	return n.dialed[address]
}

// nobody is an address where nobody listens.
func nobody() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(err, "a free port")
	defer l.Close()
	return l.Addr().String()
}

// balancing: a client with several addresses, one of them dead, uses all that live, and goes on when
// one after the other is taken away: no watch loses an event by it and no lease that is kept ends.
func balancing(ctx context.Context, live []string, prefix string) {
	n, dead := newNetwork(), nobody()
	c := scenario.Connect(dead+","+strings.Join(live, ","), grpc.WithContextDialer(n.dial))
	defer c.Close()
	kv := pb.NewKVClient(c.ActiveConnection())

	// spread sends requests until each of the addresses has answered as many, and says which others did.
	spread := func(wanted []string, each int) {
		counts := map[string]int{}
		scenario.Until(fmt.Sprintf("requests over %v", wanted), func() bool {
			for range 10 * len(wanted) {
				var from peer.Peer
				_, err := kv.Range(ctx, &pb.RangeRequest{Key: []byte(prefix)}, grpc.Peer(&from), grpc.WaitForReady(true))
				must(err, "get")
				counts[from.Addr.String()]++
			}
			for _, address := range wanted {
				if counts[address] < each {
					return false
				}
			}
			return true
		})
		for address := range counts {
			found := false
			for _, one := range wanted {
				found = found || one == address
			}
			check(found, "%s answers, wanted are %v: %v", address, wanted, counts)
		}
	}
	spread(live, 50)
	check(n.tried(dead) > 0, "the dead address was never tried")

	lease, err := c.Grant(ctx, 5)
	must(err, "grant")
	kept, err := c.KeepAlive(ctx, lease.ID)
	must(err, "keep alive")
	_, err = c.Put(ctx, prefix+"kept", "x", clientv3.WithLease(lease.ID))
	must(err, "put")
	begin, err := c.Put(ctx, prefix+"events/begin", "")
	must(err, "put")
	watch, stop := context.WithCancel(ctx)
	defer stop()
	events := c.Watch(watch, prefix+"events/", clientv3.WithPrefix(), clientv3.WithRev(begin.Header.Revision))

	// A write whose connection breaks may or may not have been made: the client says Unavailable,
	// and who wrote has to look.
	written := 0
	write := func() {
		for range 20 {
			key := fmt.Sprintf("%sevents/%04d", prefix, written)
			for attempt := 0; ; attempt++ {
				done, err := c.Txn(ctx).If(clientv3.Compare(clientv3.CreateRevision(key), "=", 0)).Then(clientv3.OpPut(key, fmt.Sprint(written))).Commit()
				if err == nil {
					check(done.Succeeded || attempt > 0, "%s is there before it is written", key)
					break
				}
				check(status.Code(err) == codes.Unavailable, "a write over a broken connection: %v", err)
				check(attempt < 100, "no address takes a write: %v", err)
				time.Sleep(10 * time.Millisecond)
			}
			_, err := c.Get(ctx, prefix+"kept")
			must(err, "a read, which the client repeats by itself")
			written++
		}
	}
	write()
	for _, gone := range live {
		n.take(gone)
		write()
		var left []string
		for _, address := range live {
			if address != gone {
				left = append(left, address)
			}
		}
		spread(left, 20)
		n.give(gone)
		spread(live, 20)
		write()
	}
	seen := collect(events, written+1)
	for i, e := range seen[1:] {
		check(e.IsCreate() && string(e.Kv.Value) == fmt.Sprint(i), "event %d is %v", i, e)
	}

	// All addresses gone: calls wait for as long as they may, and then it all works again.
	for _, address := range live {
		n.take(address)
	}
	short, end := context.WithTimeout(ctx, 300*time.Millisecond)
	_, err = c.Get(short, prefix)
	end()
	check(err != nil, "an answer from nowhere")
	for _, address := range live {
		n.give(address)
	}
	spread(live, 20)
	got, err := c.Get(ctx, prefix+"kept")
	must(err, "get")
	check(got.Count == 1, "a lease that is kept alive ends with a connection")
	for answered := false; !answered; {
		select {
		case answer, open := <-kept:
			check(open && answer.TTL == 5, "keep-alive: %v", answer)
		default:
			answered = true
		}
	}
	once, err := c.KeepAliveOnce(ctx, lease.ID)
	must(err, "keep alive")
	check(once.TTL == 5, "keep-alive answers %d", once.TTL)
}
