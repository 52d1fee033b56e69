// Package scenario is what our test programs on the official client share: they say what is wrong
// and exit with 1 at the first answer that is not as etcd documents it.
package scenario

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
)

// Patience is longer than any step takes on the slowest machine.
const Patience = 2 * time.Minute

// Check ends the program when ok is false.
func Check(ok bool, format string, args ...any) {
	if !ok {
		fmt.Printf(filepath.Base(os.Args[0])+": "+format+"\n", args...)
		os.Exit(1)
	}
}

// Must ends the program at an error.
func Must(err error, what string) { Check(err == nil, "%s: %v", what, err) }

// Connect makes a client of its own; nobody closes it before the program ends.
func Connect(endpoints string, options ...grpc.DialOption) *clientv3.Client {
	client, err := clientv3.New(clientv3.Config{Endpoints: strings.Split(endpoints, ","), DialTimeout: 5 * time.Second,
		Logger: zap.NewNop(), DialOptions: options})
	Must(err, "connect")
	return client
}

// Answered is an option for a connection: each answered transaction shows in the channel.
//
// The lock's and the election's calls clean up after themselves when they are given up, but only
// once they know that their key was made.
func Answered() (grpc.DialOption, <-chan bool) {
	answered := make(chan bool, 100)
	return grpc.WithChainUnaryInterceptor(func(ctx context.Context, method string, request, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption) error {
		err := invoke(ctx, method, request, reply, conn, options...)
		if err == nil && strings.HasSuffix(method, "/Txn") {
			answered <- true
		}
		return err
	}), answered
}

// Prefix is where a run keeps its keys, so that a program can run twice on one server.
func Prefix(name string) string { return fmt.Sprintf("%s/%d/", name, time.Now().UnixNano()) }

// Together runs all of them at once and ends the program when one hangs.
func Together(all map[string]func(ctx context.Context)) {
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	running := sync.Map{}
	var group sync.WaitGroup
	for name, run := range all {
		running.Store(name, true)
		group.Add(1)
		go func() {
			defer group.Done()
			run(ctx)
			running.Delete(name)
		}()
	}
	done := make(chan struct{})
	go func() {
		group.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(Patience + 10*time.Second):
		var left []any
		running.Range(func(name, _ any) bool {
			left = append(left, name)
			return true
		})
		Check(false, "still running: %v", left)
	}
}

// Quiet says whether nothing comes from a channel for a moment. A late one is not seen here, so a
// slow machine fails nothing.
func Quiet[T any](from <-chan T) bool {
	select {
	case <-from:
		return false
	case <-time.After(150 * time.Millisecond):
		return true
	}
}

// Take waits for the next of a channel.
func Take[T any](from <-chan T, what string) T {
	select {
	case value, open := <-from:
		Check(open, "%s: the channel is closed", what)
		return value
	case <-time.After(Patience):
		Check(false, "%s: nothing comes", what)
		panic("unreachable")
	}
}

// Until asks again until the answer is yes.
func Until(what string, ask func() bool) {
	for end := time.Now().Add(Patience); !ask(); time.Sleep(5 * time.Millisecond) {
		Check(time.Now().Before(end), "%s: not yet", what)
	}
}

// Keys are the keys of a prefix, oldest first.
func Keys(ctx context.Context, c *clientv3.Client, prefix string) []string {
	got, err := c.Get(ctx, prefix, clientv3.WithPrefix(), clientv3.WithSort(clientv3.SortByCreateRevision, clientv3.SortAscend))
	Must(err, "get "+prefix)
	keys := make([]string, 0, len(got.Kvs))
	for _, kv := range got.Kvs {
		keys = append(keys, string(kv.Key))
	}
	return keys
}
