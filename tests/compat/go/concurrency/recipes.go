package main

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	clientv3 "go.etcd.io/etcd/client/v3"
	recipe "go.etcd.io/etcd/client/v3/experimental/recipes"

	"etchd/tests/compat/internal/scenario"
)

func pairEnd(prefix string) clientv3.OpOption {
	return clientv3.WithRange(clientv3.GetPrefixRangeEnd(prefix))
}

// queue: what many put in, many take out, each once, and each producer's in its order.
func queue(p *place) {
	const producers, consumers, items = 3, 3, 20
	taken := make(chan string, producers*items)
	var group sync.WaitGroup
	for range consumers {
		group.Add(1)
		go func() {
			defer group.Done()
			q := recipe.NewQueue(scenario.Connect(*endpoint), p.prefix+"shared")
			for {
				item, err := q.Dequeue()
				must(err, "dequeue")
				if item == "end" {
					return
				}
				taken <- item
			}
		}()
	}
	var putting sync.WaitGroup
	for producer := range producers {
		putting.Add(1)
		go func() {
			defer putting.Done()
			q := recipe.NewQueue(scenario.Connect(*endpoint), p.prefix+"shared")
			for i := range items {
				must(q.Enqueue(fmt.Sprintf("%d/%02d", producer, i)), "enqueue")
			}
		}()
	}
	putting.Wait()
	end := recipe.NewQueue(p.c, p.prefix+"shared")
	for range consumers {
		must(end.Enqueue("end"), "enqueue")
	}
	group.Wait()
	close(taken)
	seen := map[string]bool{}
	for item := range taken {
		check(!seen[item], "%s is taken twice", item)
		seen[item] = true
	}
	check(len(seen) == producers*items, "%d items of %d", len(seen), producers*items)

	alone := recipe.NewQueue(p.c, p.prefix+"alone")
	for i := range items {
		must(alone.Enqueue(fmt.Sprint(i)), "enqueue")
	}
	for i := range items {
		item, err := alone.Dequeue()
		must(err, "dequeue")
		check(item == fmt.Sprint(i), "%s comes in place of %d", item, i)
	}
	got := make(chan string, 1)
	go func() {
		item, err := alone.Dequeue()
		must(err, "dequeue")
		got <- item
	}()
	check(scenario.Quiet(got), "something comes from an empty queue")
	must(alone.Enqueue("late"), "enqueue")
	check(scenario.Take(got, "the late item") == "late", "another item")
	check(len(scenario.Keys(p.ctx, p.c, p.prefix)) == 0, "keys are left: %v", scenario.Keys(p.ctx, p.c, p.prefix))
}

func priorityQueue(p *place) {
	q := recipe.NewPriorityQueue(p.c, p.prefix+"queue")
	for i := range 30 {
		must(q.Enqueue(fmt.Sprintf("%d/%02d", i%3, i), uint16(i%3)), "enqueue")
	}
	last := ""
	for range 30 {
		item, err := q.Dequeue()
		must(err, "dequeue")
		check(item > last, "%s comes after %s", item, last)
		last = item
	}
	got := make(chan string, 1)
	go func() {
		item, err := q.Dequeue()
		must(err, "dequeue")
		got <- item
	}()
	check(scenario.Quiet(got), "something comes from an empty queue")
	must(q.Enqueue("late", 9), "enqueue")
	check(scenario.Take(got, "the late item") == "late", "another item")
}

func barrier(p *place) {
	const waiters = 5
	b := recipe.NewBarrier(p.c, p.prefix+"barrier")
	must(b.Wait(), "wait without a barrier")
	must(b.Hold(), "hold")
	check(errors.Is(b.Hold(), recipe.ErrKeyExists), "a barrier is held twice")
	passed := make(chan bool, waiters)
	for range waiters {
		go func() {
			must(recipe.NewBarrier(scenario.Connect(*endpoint), p.prefix+"barrier").Wait(), "wait")
			passed <- true
		}()
	}
	check(scenario.Quiet(passed), "one passes a held barrier")
	must(b.Release(), "release")
	for range waiters {
		scenario.Take(passed, "all pass")
	}
}

func doubleBarrier(p *place) {
	const members = 4
	name := p.prefix + "barrier"
	entered, left := make(chan bool, members), make(chan bool, members)
	start := func(leave chan bool) {
		b := recipe.NewDoubleBarrier(p.session(), name, members)
		must(b.Enter(), "enter")
		entered <- true
		<-leave
		must(b.Leave(), "leave")
		left <- true
	}
	early, last := make(chan bool), make(chan bool)
	for i := range members - 1 {
		go start(early)
		p.waiting(name+"/waiters", i+1)
	}
	check(scenario.Quiet(entered), "one enters alone")
	go start(last)
	for range members {
		scenario.Take(entered, "all enter")
	}
	tooMany := recipe.NewDoubleBarrier(p.session(), name, members)
	check(errors.Is(tooMany.Enter(), recipe.ErrTooManyClients), "one too many enters")
	close(early)
	check(scenario.Quiet(left), "one leaves alone")
	close(last)
	for range members {
		scenario.Take(left, "all leave")
	}
	check(len(scenario.Keys(p.ctx, p.c, name)) == 0, "keys are left: %v", scenario.Keys(p.ctx, p.c, name))
}

// readWriteLock: readers together, a writer alone.
func readWriteLock(p *place) {
	name := p.prefix + "lock"
	var readers, writers atomic.Int32
	one, two := recipe.NewRWMutex(p.session(), name), recipe.NewRWMutex(p.session(), name)
	must(one.RLock(), "read lock")
	must(two.RLock(), "a second read lock")
	wrote := make(chan bool, 1)
	go func() {
		w := recipe.NewRWMutex(p.session(), name)
		must(w.Lock(), "write lock")
		wrote <- true
		must(w.Unlock(), "unlock")
	}()
	check(scenario.Quiet(wrote), "a writer among readers")
	must(one.RUnlock(), "unlock")
	check(scenario.Quiet(wrote), "a writer beside a reader")
	must(two.RUnlock(), "unlock")
	scenario.Take(wrote, "the writer")

	var group sync.WaitGroup
	for worker := range 6 {
		group.Add(1)
		go func() {
			defer group.Done()
			s := p.session()
			for range 8 {
				rw := recipe.NewRWMutex(s, name)
				if worker < 2 {
					must(rw.Lock(), "write lock")
					check(writers.Add(1) == 1 && readers.Load() == 0, "a writer is not alone")
					writers.Add(-1)
					must(rw.Unlock(), "unlock")
				} else {
					must(rw.RLock(), "read lock")
					readers.Add(1)
					check(writers.Load() == 0, "a reader beside a writer")
					readers.Add(-1)
					must(rw.RUnlock(), "unlock")
				}
			}
		}()
	}
	group.Wait()
	check(len(scenario.Keys(p.ctx, p.c, name)) == 0, "keys are left: %v", scenario.Keys(p.ctx, p.c, name))
}
