// benchload drives one endpoint for bench/compare: it fills keys, repeats one kind of request from one client, or
// fans events out to watchers, and prints what it did as one line of JSON. CPU time is read by the caller, from the
// server's process.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"sort"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "benchload:", err)
		os.Exit(1)
	}
}

func key(n int) string { return fmt.Sprintf("/registry/pods/default/pod-%08d", n) }

func main() {
	endpoint := flag.String("endpoint", "127.0.0.1:2379", "server to drive")
	keys := flag.Int("keys", 0, "number of keys to fill or expected")
	count := flag.Int("n", 100, "requests")
	watchers := flag.Int("watchers", 1000, "watchers")
	size := flag.Int("size", 256, "bytes of a value")
	flag.Parse()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{*endpoint}, DialTimeout: 5 * time.Second})
	check(err)
	defer client.Close()
	ctx := context.Background()
	value := string(make([]byte, *size))
	out := map[string]any{}
	switch flag.Arg(0) {
	case "fill":
		for n := 0; n < *keys; {
			ops := make([]clientv3.Op, 0, 128)
			for ; n < *keys && len(ops) < 128; n++ {
				ops = append(ops, clientv3.OpPut(key(n), value))
			}
			_, err := client.Txn(ctx).Then(ops...).Commit()
			check(err)
		}
	case "put", "get", "count", "page":
		took := make([]float64, 0, *count)
		for i := 0; i < *count; i++ {
			began := time.Now()
			switch flag.Arg(0) {
			case "put":
				_, err = client.Put(ctx, "/bench/one", value)
			case "get":
				_, err = client.Get(ctx, "/bench/one")
			case "count":
				var got *clientv3.GetResponse
				got, err = client.Get(ctx, "/registry/", clientv3.WithPrefix(), clientv3.WithCountOnly())
				if err == nil && got.Count != int64(*keys) {
					err = fmt.Errorf("counted %d of %d keys", got.Count, *keys)
				}
			case "page":
				var got *clientv3.GetResponse
				got, err = client.Get(ctx, "/registry/", clientv3.WithPrefix(), clientv3.WithLimit(500))
				if err == nil && (got.Count != int64(*keys) || len(got.Kvs) != 500) {
					err = fmt.Errorf("page of %d with count %d", len(got.Kvs), got.Count)
				}
			}
			check(err)
			took = append(took, float64(time.Since(began).Microseconds()))
		}
		sort.Float64s(took)
		out["p50_us"], out["p99_us"] = took[len(took)/2], took[len(took)*99/100]
	case "watch":
		watch(ctx, client, *watchers, *count, value, out)
	default:
		check(fmt.Errorf("say fill, put, get, count, page or watch"))
	}
	check(json.NewEncoder(os.Stdout).Encode(out))
}

// watch opens watchers on one key, puts it count times, and waits until each watcher has seen every put.
func watch(ctx context.Context, client *clientv3.Client, watchers, count int, value string, out map[string]any) {
	done := make(chan int, watchers)
	ready := make(chan struct{}, watchers)
	for w := 0; w < watchers; w++ {
		events := client.Watch(ctx, "/bench/watched", clientv3.WithCreatedNotify())
		go func() {
			seen := 0
			for response := range events {
				if response.Created {
					ready <- struct{}{}
				}
				seen += len(response.Events)
				if seen == count {
					done <- seen
					return
				}
			}
			done <- -1
		}()
	}
	for w := 0; w < watchers; w++ {
		<-ready
	}
	// The caller reads the server's CPU time when it sees this line, and again when the program ends.
	fmt.Println(`{"ready":true}`)
	began := time.Now()
	for i := 0; i < count; i++ {
		_, err := client.Put(ctx, "/bench/watched", value)
		check(err)
	}
	for w := 0; w < watchers; w++ {
		if <-done != count {
			check(fmt.Errorf("a watcher missed events"))
		}
	}
	out["events"] = watchers * count
	out["seconds"] = time.Since(began).Seconds()
}
