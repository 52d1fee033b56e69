package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/naming/endpoints"

	"etchd/tests/compat/internal/scenario"
)

// directory is a client's copy of a prefix: a list, then what the watch tells after it.
type directory struct {
	ctx    context.Context
	events clientv3.WatchChan
	known  map[string]string
}

func newDirectory(ctx context.Context, c *clientv3.Client, prefix string) *directory {
	list, err := c.Get(ctx, prefix, clientv3.WithPrefix())
	must(err, "list")
	d := &directory{ctx, c.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithRev(list.Header.Revision+1)), map[string]string{}}
	for _, kv := range list.Kvs {
		d.known[strings.TrimPrefix(string(kv.Key), prefix)] = string(kv.Value)
	}
	return d
}

// until follows the watch until the copy is as wanted, and lists it when it never is.
func (d *directory) until(want map[string]string, prefix string) {
	for !equal(d.known, want) {
		response := scenario.Take(d.events, fmt.Sprintf("%v, with %v known", want, d.known))
		must(response.Err(), "watch")
		for _, e := range response.Events {
			name := strings.TrimPrefix(string(e.Kv.Key), prefix)
			if e.Type == mvccpb.Event_DELETE {
				_, ok := d.known[name]
				check(ok, "%s goes, which was not known", name)
				delete(d.known, name)
			} else {
				d.known[name] = string(e.Kv.Value)
			}
		}
	}
}

func equal(a, b map[string]string) bool {
	for k, v := range a {
		if b[k] != v {
			return false
		}
	}
	return len(a) == len(b)
}

// discovery: services register under a lease that they keep alive, clients follow the prefix.
func discovery(ctx context.Context, c *clientv3.Client, prefix string) {
	type service struct {
		lease clientv3.LeaseID
		die   context.CancelFunc
		kept  <-chan *clientv3.LeaseKeepAliveResponse
	}
	register := func(name, address string, ttl int64) service {
		lease, err := c.Grant(ctx, ttl)
		must(err, "grant")
		alive, die := context.WithCancel(ctx)
		kept, err := c.KeepAlive(alive, lease.ID)
		must(err, "keep alive")
		put, err := c.Txn(ctx).If(clientv3.Compare(clientv3.CreateRevision(prefix+name), "=", 0)).
			Then(clientv3.OpPut(prefix+name, address, clientv3.WithLease(lease.ID))).Commit()
		must(err, "register")
		check(put.Succeeded, "%s is registered already", name)
		return service{lease.ID, die, kept}
	}
	one := register("one", "10.0.0.1:80", 60)
	client := newDirectory(ctx, c, prefix)
	check(equal(client.known, map[string]string{"one": "10.0.0.1:80"}), "the list is %v", client.known)
	two := register("two", "10.0.0.2:80", 60)
	three := register("three", "10.0.0.3:80", 3)
	client.until(map[string]string{"one": "10.0.0.1:80", "two": "10.0.0.2:80", "three": "10.0.0.3:80"}, prefix)

	// One that changes its address keeps its lease.
	_, err := c.Put(ctx, prefix+"two", "10.0.0.2:81", clientv3.WithIgnoreLease())
	must(err, "change the address")
	client.until(map[string]string{"one": "10.0.0.1:80", "two": "10.0.0.2:81", "three": "10.0.0.3:80"}, prefix)
	attached, err := c.TimeToLive(ctx, two.lease, clientv3.WithAttachedKeys())
	must(err, "time to live")
	check(len(attached.Keys) == 1 && string(attached.Keys[0]) == prefix+"two", "the lease holds %q", attached.Keys)

	// One says good-bye, one just dies, one stays for longer than its lease alone would.
	_, err = c.Revoke(ctx, one.lease)
	must(err, "revoke")
	client.until(map[string]string{"two": "10.0.0.2:81", "three": "10.0.0.3:80"}, prefix)
	for answer := range one.kept {
		check(answer.ID == one.lease, "a keep-alive of %x", answer.ID)
	}
	three.die()
	client.until(map[string]string{"two": "10.0.0.2:81"}, prefix)
	gone, err := c.TimeToLive(ctx, three.lease)
	must(err, "time to live")
	check(gone.TTL == -1, "a service is gone before its lease: %d s are left", gone.TTL)
	late := newDirectory(ctx, c, prefix)
	check(equal(late.known, client.known), "a new client lists %v, an old one knows %v", late.known, client.known)

	// It comes back under its name.
	three = register("three", "10.0.0.4:80", 3)
	client.until(map[string]string{"two": "10.0.0.2:81", "three": "10.0.0.4:80"}, prefix)
	late.until(map[string]string{"two": "10.0.0.2:81", "three": "10.0.0.4:80"}, prefix)
	for _, s := range []service{two, three} {
		_, err := c.Revoke(ctx, s.lease)
		must(err, "revoke")
	}
	client.until(map[string]string{}, prefix)
}

// naming is the same through the client's own naming package.
func naming(ctx context.Context, c *clientv3.Client, prefix string) {
	target := prefix + "service"
	manager, err := endpoints.NewManager(c, target)
	must(err, "manager")
	lease, err := c.Grant(ctx, 60)
	must(err, "grant")
	must(manager.AddEndpoint(ctx, target+"/a", endpoints.Endpoint{Addr: "10.0.0.1:80"}, clientv3.WithLease(lease.ID)), "add")
	watch, stop := context.WithCancel(ctx)
	defer stop()
	updates, err := manager.NewWatchChannel(watch)
	must(err, "watch")
	take := func(op endpoints.Operation, key, address string) {
		got := scenario.Take(updates, "an update of "+key)
		check(len(got) == 1 && got[0].Op == op && got[0].Key == target+key && got[0].Endpoint.Addr == address, "%s: updates %+v", key, got)
	}
	take(endpoints.Add, "/a", "10.0.0.1:80")
	must(manager.AddEndpoint(ctx, target+"/b", endpoints.Endpoint{Addr: "10.0.0.2:80", Metadata: "second"}), "add")
	take(endpoints.Add, "/b", "10.0.0.2:80")
	list, err := manager.List(ctx)
	must(err, "list")
	check(len(list) == 2 && list[target+"/a"].Addr == "10.0.0.1:80" && list[target+"/b"].Metadata == "second", "the list is %v", list)
	_, err = c.Revoke(ctx, lease.ID)
	must(err, "revoke")
	take(endpoints.Delete, "/a", "")
	must(manager.DeleteEndpoint(ctx, target+"/b"), "delete")
	take(endpoints.Delete, "/b", "")
}

// publishing: every subscriber gets each message of its topics once and in order, those of the past
// too when it asks for them.
func publishing(ctx context.Context, c *clientv3.Client, prefix string) {
	const messages = 100
	topics := []string{"news", "sports", "weather"}
	begin, err := c.Get(ctx, prefix)
	must(err, "get")
	// To require a leader makes a stream of its own, on which nobody else watches.
	watch, stop := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer stop()
	type subscriber struct {
		name   string
		events clientv3.WatchChan
		topics []string
	}
	subscribers := []subscriber{
		{"all", c.Watch(watch, prefix, clientv3.WithPrefix()), topics},
		{"one", c.Watch(watch, prefix+"news/", clientv3.WithPrefix()), topics[:1]},
		{"two", c.Watch(watch, prefix+"news/", clientv3.WithRange(prefix+"t"), clientv3.WithFilterDelete()), topics[:2]},
		{"fragments", c.Watch(watch, prefix, clientv3.WithPrefix(), clientv3.WithFragment(), clientv3.WithProgressNotify()), topics},
	}
	// A watch counts from when the server has made it: no message is sent before.
	for i := range subscribers {
		_, err := c.Put(ctx, prefix+"news/ready", "")
		must(err, "put")
		response := scenario.Take(subscribers[i].events, "the subscription")
		must(response.Err(), "watch")
	}
	_, err = c.Put(ctx, prefix+"begin", "")
	must(err, "put")
	end := make(chan int64, len(topics))
	for _, topic := range topics {
		go func() {
			last := int64(0)
			for i := range messages {
				put, err := c.Put(ctx, prefix+topic+"/message", fmt.Sprint(i))
				must(err, "publish")
				last = put.Header.Revision
			}
			end <- last
		}()
	}
	final := max(<-end, <-end, <-end)
	subscribers = append(subscribers, subscriber{"late", c.Watch(watch, prefix, clientv3.WithPrefix(), clientv3.WithRev(begin.Header.Revision+1)), topics})
	for _, s := range subscribers {
		next := map[string]int{}
		count, last := 0, int64(0)
		for count < messages*len(s.topics) {
			response := scenario.Take(s.events, s.name+": the next message")
			must(response.Err(), "watch")
			for _, e := range response.Events {
				topic, name, _ := strings.Cut(strings.TrimPrefix(string(e.Kv.Key), prefix), "/")
				if name != "message" {
					continue
				}
				check(slices.Contains(s.topics, topic), "%s is told of %s", s.name, topic)
				check(string(e.Kv.Value) == fmt.Sprint(next[topic]), "%s: message %q of %s in place of %d", s.name, e.Kv.Value, topic, next[topic])
				check(e.Kv.ModRevision > last && e.Kv.ModRevision <= final, "%s: revision %d after %d", s.name, e.Kv.ModRevision, last)
				next[topic], last = next[topic]+1, e.Kv.ModRevision
				count++
			}
		}
		check(scenario.Quiet(s.events), "%s gets more than was sent", s.name)
	}
	// All of them have seen all there is, and so the server says.
	for _, s := range subscribers {
		for asked := 0; ; asked++ {
			check(asked < 1000, "%s: no word of progress", s.name)
			must(c.RequestProgress(watch), "request progress")
			select {
			case response := <-s.events:
				check(response.IsProgressNotify() && response.Header.Revision >= final, "%s: in place of progress comes %+v", s.name, response)
			case <-time.After(100 * time.Millisecond):
				continue // a watcher that is just being moved keeps the answer back
			}
			break
		}
	}
}

// claim makes a key of one's own unless somebody has it.
func claim(ctx context.Context, c *clientv3.Client, key, who string, lease clientv3.LeaseID) (bool, *clientv3.TxnResponse) {
	got, err := c.Txn(ctx).If(clientv3.Compare(clientv3.CreateRevision(key), "=", 0)).
		Then(clientv3.OpPut(key, who, clientv3.WithLease(lease))).Else(clientv3.OpGet(key)).Commit()
	must(err, "claim")
	return got.Succeeded, got
}

// awaitDeletion waits until a key is gone, as seen from a revision at which it was there.
func awaitDeletion(ctx context.Context, c *clientv3.Client, key string, revision int64) {
	watch, stop := context.WithCancel(ctx)
	defer stop()
	events := c.Watch(watch, key, clientv3.WithRev(revision+1), clientv3.WithFilterPut())
	for {
		response := scenario.Take(events, "the end of "+key)
		must(response.Err(), "watch")
		// Somebody else's question for progress is answered to all watches of the stream, without an event.
		if len(response.Events) > 0 {
			check(response.Events[0].Type == mvccpb.Event_DELETE, "%s: %v", key, response.Events)
			return
		}
	}
}

// lock by hand: a key under a lease, whose end all others wait for.
func lock(ctx context.Context, c *clientv3.Client, prefix string) {
	const workers, rounds = 5, 6
	var inside, turns atomic.Int32
	var group sync.WaitGroup
	for worker := range workers {
		group.Add(1)
		go func() {
			defer group.Done()
			for range rounds {
				lease, err := c.Grant(ctx, 60)
				must(err, "grant")
				who := fmt.Sprintf("%d of %x", worker, lease.ID)
				for {
					mine, response := claim(ctx, c, prefix+"lock", who, lease.ID)
					if mine {
						break
					}
					held := response.Responses[0].GetResponseRange().Kvs
					check(len(held) == 1 && string(held[0].Value) != who, "a lock that is not free is held by %v", held)
					awaitDeletion(ctx, c, prefix+"lock", response.Header.Revision)
				}
				check(inside.Add(1) == 1, "two hold the lock")
				turns.Add(1)
				inside.Add(-1)
				// Half of them give it back by the key, half by the lease.
				if worker%2 == 0 {
					freed, err := c.Txn(ctx).If(clientv3.Compare(clientv3.Value(prefix+"lock"), "=", who)).Then(clientv3.OpDelete(prefix + "lock")).Commit()
					must(err, "unlock")
					check(freed.Succeeded && freed.Responses[0].GetResponseDeleteRange().Deleted == 1, "the lock was lost")
				}
				_, err = c.Revoke(ctx, lease.ID)
				must(err, "revoke")
			}
		}()
	}
	group.Wait()
	check(turns.Load() == workers*rounds, "%d turns", turns.Load())

	// A holder that dies keeps it for as long as its lease lasts.
	dead, err := c.Grant(ctx, 2)
	must(err, "grant")
	mine, response := claim(ctx, c, prefix+"lock", "dead", dead.ID)
	check(mine, "the lock is not free")
	awaitDeletion(ctx, c, prefix+"lock", response.Header.Revision)
	_, err = c.KeepAliveOnce(ctx, dead.ID)
	check(errors.Is(err, rpctypes.ErrLeaseNotFound), "the lock is free and its lease is not over: %v", err)
}

// election by hand: whose key is the oldest leads.
func election(ctx context.Context, c *clientv3.Client, prefix string) {
	const candidates = 4
	leading := make(chan string, candidates)
	leases := map[string]clientv3.LeaseID{}
	var order []string
	for i := range candidates {
		lease, err := c.Grant(ctx, 60)
		must(err, "grant")
		name := fmt.Sprintf("%x", lease.ID)
		put, err := c.Put(ctx, prefix+name, fmt.Sprint(i), clientv3.WithLease(lease.ID))
		must(err, "put")
		leases[name] = lease.ID
		order = append(order, name)
		go func() {
			for {
				// The one just before: nobody else's end matters.
				before, err := c.Get(ctx, prefix, append(clientv3.WithLastCreate(), clientv3.WithMaxCreateRev(put.Header.Revision-1))...)
				must(err, "get")
				if len(before.Kvs) == 0 {
					leading <- name
					return
				}
				awaitDeletion(ctx, c, string(before.Kvs[0].Key), before.Header.Revision)
			}
		}()
	}
	for _, name := range order {
		leader := scenario.Take(leading, "a leader")
		check(leader == name, "%s leads in place of %s", leader, name)
		first, err := c.Get(ctx, prefix, clientv3.WithFirstCreate()...)
		must(err, "get")
		check(string(first.Kvs[0].Key) == prefix+leader, "the oldest key is %s", first.Kvs[0].Key)
		check(scenario.Quiet(leading), "two leaders")
		_, err = c.Revoke(ctx, leases[name])
		must(err, "revoke")
	}
}

// queue by hand: the oldest key is taken by whoever deletes it.
func queue(ctx context.Context, c *clientv3.Client, prefix string) {
	const consumers, items = 4, 60
	taken := make(chan string, items)
	var group sync.WaitGroup
	for range consumers {
		group.Add(1)
		go func() {
			defer group.Done()
			last := int64(0)
			for {
				first, err := c.Get(ctx, prefix, clientv3.WithFirstCreate()...)
				must(err, "get")
				if len(first.Kvs) == 0 {
					waiting, stop := context.WithCancel(ctx)
					response := scenario.Take(c.Watch(waiting, prefix, clientv3.WithPrefix(), clientv3.WithRev(first.Header.Revision+1), clientv3.WithFilterDelete()), "an item")
					stop()
					must(response.Err(), "watch")
					continue
				}
				kv := first.Kvs[0]
				if string(kv.Value) == "end" {
					return
				}
				took, err := c.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(string(kv.Key)), "=", kv.ModRevision)).
					Then(clientv3.OpDelete(string(kv.Key), clientv3.WithPrevKV())).Commit()
				must(err, "take")
				if took.Succeeded {
					previous := took.Responses[0].GetResponseDeleteRange().PrevKvs
					check(len(previous) == 1 && string(previous[0].Value) == string(kv.Value), "taken: %v", previous)
					check(kv.CreateRevision > last, "an item of revision %d after one of %d", kv.CreateRevision, last)
					last = kv.CreateRevision
					taken <- string(kv.Value)
				}
			}
		}()
	}
	for i := range items {
		_, err := c.Put(ctx, fmt.Sprintf("%s%03d", prefix, items-i), fmt.Sprint(i))
		must(err, "put")
	}
	_, err := c.Put(ctx, prefix+"end", "end")
	must(err, "put")
	group.Wait()
	close(taken)
	seen := map[string]bool{}
	for item := range taken {
		check(!seen[item], "%s is taken twice", item)
		seen[item] = true
	}
	check(len(seen) == items, "%d items of %d", len(seen), items)
}
