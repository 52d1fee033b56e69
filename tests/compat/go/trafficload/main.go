// trafficload is what tests/traffic records of grpc-go: bursts of unary calls, watches, leases, large answers, cancelled
// and timed-out calls, keepalive pings, each on a client of its own.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "trafficload:", err)
		os.Exit(1)
	}
}

func main() {
	endpoint := flag.String("endpoint", "127.0.0.1:2379", "server to drive")
	server := flag.Int("pid", 0, "process of the server, to be stopped for a while: the outage")
	flag.Parse()
	ctx := context.Background()
	connect := func() *clientv3.Client {
		client, err := clientv3.New(clientv3.Config{
			Endpoints: []string{*endpoint}, DialTimeout: 5 * time.Second,
			DialKeepAliveTime: 5 * time.Second, DialKeepAliveTimeout: 5 * time.Second,
		})
		check(err)
		return client
	}
	each := func(count int, call func(n int)) {
		var all sync.WaitGroup
		for n := range count {
			all.Add(1)
			go func() { defer all.Done(); call(n) }()
		}
		all.Wait()
	}
	value := string(make([]byte, 64))

	burst := connect()
	for range 4 {
		each(500, func(n int) {
			_, err := burst.Put(ctx, fmt.Sprintf("burst/%d", n), value)
			check(err)
		})
	}
	check(burst.Close())

	// A large value, read often: the client measures bandwidth with pings and widens its windows.
	large := connect()
	_, err := large.Put(ctx, "large", string(make([]byte, 1<<20)))
	check(err)
	each(8, func(int) {
		for range 8 {
			_, err := large.Get(ctx, "large")
			check(err)
		}
	})
	check(large.Close())

	// Watches that are made, told of puts, and cancelled.
	watching := connect()
	each(100, func(n int) {
		watched, cancel := context.WithCancel(ctx)
		events := watching.Watch(watched, fmt.Sprintf("watch/%d", n))
		_, err := watching.Put(ctx, fmt.Sprintf("watch/%d", n), value)
		check(err)
		<-events
		cancel()
	})
	lease, err := watching.Grant(ctx, 5)
	check(err)
	renewals, err := watching.KeepAlive(ctx, lease.ID)
	check(err)
	<-renewals
	// Idle for two keepalive pings.
	time.Sleep(11 * time.Second)
	check(watching.Close())

	// Calls that are given up, one after the other and all at once.
	outage := connect()
	for n := range 200 {
		short, cancel := context.WithTimeout(ctx, time.Duration(n*10)*time.Microsecond)
		_, _ = outage.Get(short, "burst/1")
		cancel()
	}
	if *server != 0 {
		check(syscall.Kill(*server, syscall.SIGSTOP))
		each(2000, func(n int) {
			short, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
			defer cancel()
			_, _ = outage.Put(short, fmt.Sprintf("outage/%d", n), value)
		})
		check(syscall.Kill(*server, syscall.SIGCONT))
	}
	_, err = outage.Put(ctx, "after", "outage")
	check(err)
	check(outage.Close())
}
