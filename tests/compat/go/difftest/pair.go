package main

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// settleTimeout bounds the wait for events that must come. It only passes when a server is wrong.
const settleTimeout = 20 * time.Second

// pair drives both servers with the same steps and knows what a client would know: the newest and
// the compacted revision, the live keys and leases, the open watchers.
type pair struct {
	a, b  *side
	rules rules

	history
	events  []*mvccpb.Event // all that ever happened, in order
	live    map[string]bool
	leases  map[int64]bool
	streams map[int]*pairStream

	last lastStep
}

// lastStep is what the report prints about the step that went wrong.
type lastStep struct {
	request proto.Message
	a, b    answer
	options []string
	row     string
}

type pairStream struct {
	created int // responses with created=true seen by now
	slots   int
	open    []*pairWatcher
	sends   int // progress requests that must be answered

	compacted []int64 // watchers cancelled as compacted and not cancelled by the client since
	strays    int     // answers to cancelling those
}

type pairWatcher struct {
	slot     int
	id       int64
	request  *pb.WatchCreateRequest
	start    int64
	options  []string
	lost     int64
	compacts bool // has to be cancelled as compacted
	cursor   int  // into pair.events
	expected int  // events due by now
	behind   bool // started in the past and not known to have caught up
	compared int
}

func newPair(a, b *server, differences string) (*pair, error) {
	p := &pair{live: map[string]bool{}, leases: map[int64]bool{}, streams: map[int]*pairStream{}}
	p.current, p.compact = 1, -1
	var err error
	if p.a, err = openSide(a); err != nil {
		return nil, err
	}
	if p.b, err = openSide(b); err != nil {
		p.a.close()
		return nil, err
	}
	if oldVersion(p.a.version) || oldVersion(p.b.version) {
		stableSortCount = 6
	}
	p.rules = readRules(differences, p.a.version)
	return p, nil
}

func (p *pair) close() {
	p.a.close()
	p.b.close()
}

// both runs one call on the two sides at once.
func both[T any](p *pair, call func(*side) T) (T, T) {
	done := make(chan T, 1)
	go func() { done <- call(p.b) }()
	a := call(p.a)
	return a, <-done
}

// run does one step and returns the differences no rule explains.
func (p *pair) run(op *Op) []diff {
	p.last = lastStep{}
	var diffs []diff
	kind := op.Kind
	switch op.Kind {
	case kindRaw:
		kind, diffs = p.runRaw(op)
	case kindWatchCreate:
		diffs = p.runWatchCreate(op)
	case kindWatchCancel:
		diffs = p.runWatchCancel(op)
	case kindWatchAsk:
		diffs = p.runWatchAsk(op)
	case kindWatchClose:
		diffs = p.runWatchClose(op)
	case kindSettle:
		diffs = p.settle()
	default:
		diffs = p.runCall(op)
	}
	if p.last.a.err != nil && status.Code(p.last.a.err) == codes.Unavailable || p.last.b.err != nil && status.Code(p.last.b.err) == codes.Unavailable {
		// A server that dies of a request answers it so; it takes a moment until it is gone.
		for _, s := range []*side{p.a, p.b} {
			select {
			case <-s.exited:
				diffs = append(diffs, diff{"server " + s.name, "died", "died"})
			case <-time.After(500 * time.Millisecond):
			}
		}
	}
	if len(diffs) == 0 {
		diffs = p.follow()
	}
	if len(diffs) == 0 {
		return nil
	}
	if !p.a.alive() || !p.b.alive() {
		for _, s := range []*side{p.a, p.b} {
			if !s.alive() {
				diffs = append(diffs, diff{"server " + s.name, "died", s.logTail()})
			}
		}
		return diffs
	}
	options := p.last.options
	if kind == kindHashKV && fromMemory(diffs) {
		options = append(slices.Clone(options), "answer.remembered")
	}
	return p.rules.unexplained(kind, options, diffs)
}

// call sends a unary request (or a stream that behaves like one) to both.
func (p *pair) call(kind string, request proto.Message) (answer, answer) {
	return both(p, func(s *side) answer {
		request := proto.Clone(request)
		var got answer
		switch kind {
		case kindRangeStream:
			got = s.rangeStream(request.(*pb.RangeRequest))
		case kindKeepAlive:
			got = s.keepAlive(request.(*pb.LeaseKeepAliveRequest))
		default:
			got = s.unary(kind, request)
		}
		if got.err == nil {
			normalise(request, got.message)
		}
		return got
	})
}

func (p *pair) runCall(op *Op) []diff {
	symbolic := op.request()
	request := proto.Clone(symbolic)
	resolveMessage(request.ProtoReflect(), p.history)
	p.last.request = request
	p.last.options = optionsOf(op.Kind, symbolic, p)
	if r, ok := request.(*pb.CompactionRequest); ok && r.Revision > p.compact && r.Revision <= p.current {
		// A watcher that has not caught up would be cancelled or not, as the timing falls.
		if diffs := p.settle(); len(diffs) > 0 {
			return diffs
		}
		if diffs := p.proveSynced(); len(diffs) > 0 {
			return diffs
		}
	}
	a, b := p.call(op.Kind, request)
	if r, ok := request.(*pb.LeaseGrantRequest); ok && a.err == nil && b.err == nil && ephemeral(r) {
		if diffs := p.dropLeases(r, a, b); len(diffs) > 0 {
			return diffs
		}
	}
	p.last.a, p.last.b = a, b
	p.last.row = rowOf(a)
	p.learn(request, a)
	diffs := compareAnswers(a, b)
	if op.Kind == kindCompact && a.err == nil && b.err == nil {
		both(p, func(s *side) bool { return s.swept(p.compact) })
	}
	if op.Kind == kindTimeToLive {
		diffs = slices.DeleteFunc(diffs, func(d diff) bool { return d.field == "TTL" && closeTTL(a, b) })
	}
	return diffs
}

// Remaining seconds are cut to whole ones on each side at a slightly different moment.
func closeTTL(a, b answer) bool {
	x, y := a.message.(*pb.LeaseTimeToLiveResponse).TTL, b.message.(*pb.LeaseTimeToLiveResponse).TTL
	return x > 0 && y > 0 && x-y <= 2 && y-x <= 2
}

// ephemeral leases would expire or differ in id: they are revoked at once.
func ephemeral(r *pb.LeaseGrantRequest) bool { return r.ID == 0 || r.TTL < longTTL }

const longTTL = 1000

func (p *pair) dropLeases(r *pb.LeaseGrantRequest, a, b answer) []diff {
	ra, rb := a.message.(*pb.LeaseGrantResponse), b.message.(*pb.LeaseGrantResponse)
	ga, gb := both(p, func(s *side) answer {
		id := ra.ID
		if s == p.b {
			id = rb.ID
		}
		return s.unary(kindLeaseRevoke, &pb.LeaseRevokeRequest{ID: id})
	})
	if r.ID == 0 && ra.ID > 0 && rb.ID > 0 {
		ra.ID, rb.ID = 0, 0 // each side picks its own
	}
	return compareAnswers(ga, gb)
}

// learn takes over what the oracle's answer says about the state.
func (p *pair) learn(request proto.Message, a answer) {
	if a.err != nil {
		return
	}
	if h, ok := a.message.(interface{ GetHeader() *pb.ResponseHeader }); ok && h.GetHeader() != nil {
		p.current = max(p.current, h.GetHeader().Revision)
	}
	switch r := request.(type) {
	case *pb.CompactionRequest:
		p.compact = r.Revision
	case *pb.LeaseGrantRequest:
		if !ephemeral(r) {
			p.leases[r.ID] = true
		}
	case *pb.LeaseRevokeRequest:
		delete(p.leases, r.ID)
	}
}

func (p *pair) runRaw(op *Op) (string, []diff) {
	kind, _ := rawKind(op.Method)
	type reply struct {
		body []byte
		err  error
	}
	a, b := both(p, func(s *side) reply {
		body, err := s.raw(op.Method, op.Req, op.Client)
		return reply{body, err}
	})
	decode := func(r reply) answer {
		response := newResponse(kind)
		if r.err != nil || response == nil {
			return answer{message: response, err: r.err}
		}
		if err := proto.Unmarshal(r.body, response); err != nil {
			return answer{err: fmt.Errorf("response does not decode: %w", err)}
		}
		request := newRequest(kind)
		if proto.Unmarshal(op.Req, request) == nil {
			normalise(request, response)
		}
		return answer{message: response}
	}
	p.last.a, p.last.b = decode(a), decode(b)
	p.last.options = rawOptions(op)
	p.last.row = rowOf(p.last.a)
	request := newRequest(kind)
	if request != nil && proto.Unmarshal(op.Req, request) == nil {
		p.last.request = request
		p.learn(request, p.last.a)
	}
	if p.last.a.err == nil && p.last.b.err == nil && p.last.a.message == nil {
		return kind, nil
	}
	return kind, compareAnswers(p.last.a, p.last.b)
}

// follow waits until the oracle's history has reached the newest revision, so that the next step
// is chosen from a known state, and files the new events.
func (p *pair) follow() []diff {
	reached := func(s *side) bool {
		s.history.mu.Lock()
		defer s.history.mu.Unlock()
		slot := s.history.firstSlot()
		return p.current == 1 || slot != nil && len(slot.events) > 0 && slot.events[len(slot.events)-1].Kv.ModRevision >= p.current
	}
	if !p.wait(p.a, func() bool { return reached(p.a) }) {
		return []diff{{"history of " + p.a.name, fmt.Sprintf("nothing for revision %d", p.current), ""}}
	}
	if !p.wait(p.b, func() bool { return reached(p.b) }) {
		return []diff{{"history of " + p.b.name, "", fmt.Sprintf("nothing for revision %d", p.current)}}
	}
	known := len(p.events)
	p.events = append(p.events, p.a.history.eventsFrom(known)...)
	other := p.b.history.eventsFrom(known)
	fresh := p.events[known:]
	for _, e := range fresh {
		if e.Type == mvccpb.Event_PUT {
			p.live[string(e.Kv.Key)] = true
		} else {
			delete(p.live, string(e.Kv.Key))
		}
		// A revision in the history that no answer has named would be a write nobody asked for.
		if e.Kv.ModRevision > p.current {
			return []diff{{"history", fmt.Sprintf("event beyond revision %d", p.current), eventText(e)}}
		}
	}
	return compareEvents("history", fresh, other)
}

func (s *watchStream) firstSlot() *slot {
	if len(s.slots) == 0 {
		return nil
	}
	return s.slots[0]
}

func (s *watchStream) eventsFrom(n int) []*mvccpb.Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	if slot := s.firstSlot(); slot != nil && len(slot.events) > n {
		return slices.Clone(slot.events[n:])
	}
	return nil
}

func eventText(e *mvccpb.Event) string { return dump(e.ProtoReflect()) }

func compareEvents(field string, a, b []*mvccpb.Event) []diff {
	var out []diff
	for i := range max(len(a), len(b)) {
		switch {
		case i >= len(b):
			out = append(out, diff{field + ".missing", eventText(a[i]), "absent"})
		case i >= len(a):
			out = append(out, diff{field + ".extra", "absent", eventText(b[i])})
		default:
			var inner []diff
			compareMessages("", a[i].ProtoReflect(), b[i].ProtoReflect(), &inner)
			for _, d := range inner {
				out = append(out, diff{field + "." + d.field, d.a + " in " + eventText(a[i]), d.b})
			}
		}
		if len(out) > 0 {
			return out // what follows is only shifted
		}
	}
	return out
}

// wait blocks until done holds, woken by each message of the side.
func (p *pair) wait(s *side, done func() bool) bool {
	return waitUntil(s, settleTimeout, done)
}

func waitUntil(s *side, timeout time.Duration, done func() bool) bool {
	if done() {
		return true
	}
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	for {
		select {
		case <-s.notify:
			if done() {
				return true
			}
		case <-s.exited:
			return done()
		case <-timer.C:
			return done()
		}
	}
}

func (p *pair) stream(n int) (*pairStream, error) {
	if s := p.streams[n]; s != nil {
		return s, nil
	}
	for _, s := range []*side{p.a, p.b} {
		stream, err := s.openWatch()
		if err != nil {
			return nil, err
		}
		s.streams[n] = stream
	}
	p.streams[n] = &pairStream{}
	return p.streams[n], nil
}

func (p *pair) runWatchCreate(op *Op) []diff {
	symbolic := op.request().(*pb.WatchCreateRequest)
	request := proto.Clone(symbolic).(*pb.WatchCreateRequest)
	resolveMessage(request.ProtoReflect(), p.history)
	p.last.request = request
	p.last.options = optionsOf(kindWatchCreate, symbolic, p)
	known, err := p.stream(op.Stream)
	if err != nil {
		return []diff{{"stream", "opens", err.Error()}}
	}
	message := &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: request}}
	lost := int64(-1)
	if p.rules.has("tombstone") {
		lost = p.compact
	}
	get := func(s *side) answer {
		stream := s.streams[op.Stream]
		stream.mu.Lock()
		stream.lost = lost
		stream.mu.Unlock()
		if err := stream.send(message); err != nil {
			return answer{err: err}
		}
		var got answer
		waitUntil(s, settleTimeout, func() bool {
			stream.mu.Lock()
			defer stream.mu.Unlock()
			if len(stream.created) > known.created {
				got.message = stream.created[known.created]
				return true
			}
			got.err = stream.err
			return got.err != nil
		})
		if got.message == nil && got.err == nil {
			got.err = fmt.Errorf("no created response")
		}
		return got
	}
	a, b := both(p, get)
	p.last.a, p.last.b = a, b
	p.last.row = rowOf(a)
	known.created++
	if diffs := compareAnswers(a, b); len(diffs) > 0 || a.err != nil {
		return diffs
	}
	created := a.message.(*pb.WatchResponse)
	if created.Canceled {
		return nil
	}
	w := &pairWatcher{slot: known.slots, id: created.WatchId, request: request, options: p.last.options}
	known.slots++
	w.start = request.StartRevision
	if w.start == 0 {
		w.start = created.Header.GetRevision() + 1
	}
	w.compacts = w.start < p.compact
	w.behind = w.start <= p.current
	w.lost = lost
	if w.compacts {
		p.last.row = "Compacted"
	}
	known.open = append(known.open, w)
	if w.compacts {
		return p.settle()
	}
	return nil
}

func (w *pairWatcher) wants(e *mvccpb.Event) bool {
	key, end := w.request.Key, w.request.RangeEnd
	if len(key) == 0 {
		key = []byte{0}
	}
	switch {
	case len(end) == 0 && !bytes.Equal(e.Kv.Key, key):
		return false
	case len(end) > 0 && bytes.Compare(e.Kv.Key, key) < 0:
		return false
	case len(end) > 0 && !bytes.Equal(end, []byte{0}) && bytes.Compare(e.Kv.Key, end) >= 0:
		return false
	}
	for _, f := range w.request.Filters {
		if f == pb.WatchCreateRequest_NOPUT && e.Type == mvccpb.Event_PUT || f == pb.WatchCreateRequest_NODELETE && e.Type == mvccpb.Event_DELETE {
			return false
		}
	}
	return e.Kv.ModRevision >= w.start && !(e.Type == mvccpb.Event_DELETE && e.Kv.ModRevision == w.lost)
}

// settle waits until every watcher on both sides has been told all it has to be told by now, and
// compares that.
func (p *pair) settle() []diff {
	if diffs := p.follow(); len(diffs) > 0 {
		return diffs
	}
	for _, n := range slices.Sorted(maps.Keys(p.streams)) {
		for _, w := range p.streams[n].open {
			for ; w.cursor < len(p.events); w.cursor++ {
				if !w.compacts && w.wants(p.events[w.cursor]) {
					w.expected++
				}
			}
		}
	}
	var diffs []diff
	for _, n := range slices.Sorted(maps.Keys(p.streams)) {
		known := p.streams[n]
		sa, sb := p.a.streams[n], p.b.streams[n]
		for i := 0; i < len(known.open); i++ {
			w := known.open[i]
			pick := func(s *watchStream) *slot {
				s.mu.Lock()
				defer s.mu.Unlock()
				return s.slots[w.slot]
			}
			wa, wb := pick(sa), pick(sb)
			due := func(stream *watchStream, s *slot) func() bool {
				return func() bool {
					stream.mu.Lock()
					defer stream.mu.Unlock()
					return s.cancelled != nil || stream.err != nil || !w.compacts && len(s.events) >= w.expected
				}
			}
			p.wait(p.a, due(sa, wa))
			p.wait(p.b, due(sb, wb))
			if found := p.compareWatcher(n, w, sa, sb, wa, wb); len(found) > 0 {
				p.last.request = w.request
				p.last.options = w.options
				found = p.rules.unexplained(kindWatchCreate, w.options, found)
				diffs = append(diffs, found...)
			}
			if wa.cancelled != nil || wb.cancelled != nil {
				known.open = slices.Delete(known.open, i, i+1)
				known.compacted = append(known.compacted, w.id)
				i--
			}
		}
		diffs = append(diffs, streamProblems(n, p.a.name, known, sa)...)
		diffs = append(diffs, streamProblems(n, p.b.name, known, sb)...)
	}
	return diffs
}

// proveSynced waits until no watcher is behind any more. One that has nothing to be told gives no
// sign of that, so another one is created after it that has: a server that serves those behind in
// passes over all of them has then served both.
func (p *pair) proveSynced() []diff {
	behind := false
	for _, known := range p.streams {
		for _, w := range known.open {
			behind = behind || w.behind
			w.behind = false
		}
	}
	if !behind || len(p.events) == 0 {
		return nil
	}
	last := p.events[len(p.events)-1].Kv
	request := &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{
		CreateRequest: &pb.WatchCreateRequest{Key: last.Key, StartRevision: last.ModRevision}}}
	ea, eb := both(p, func(s *side) error {
		probe, err := s.openWatch()
		if err != nil {
			return err
		}
		defer probe.cancel()
		if err := probe.send(request); err != nil {
			return err
		}
		told := waitUntil(s, settleTimeout, func() bool {
			probe.mu.Lock()
			defer probe.mu.Unlock()
			return probe.err != nil || probe.firstSlot() != nil && len(probe.firstSlot().events) > 0
		})
		if !told {
			return fmt.Errorf("a watcher from revision %d was never told of it", last.ModRevision)
		}
		return nil
	})
	if ea != nil || eb != nil {
		return []diff{{"watch of the newest revision", fmt.Sprint(ea), fmt.Sprint(eb)}}
	}
	return nil
}

func streamProblems(n int, name string, known *pairStream, s *watchStream) []diff {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.strays) > known.strays {
		s.problem("cancelled a watcher that is not open: %s", dump(s.strays[len(s.strays)-1].ProtoReflect()))
	}
	if len(s.problems) == 0 {
		return nil
	}
	text := strings.Join(s.problems, "; ")
	s.problems = nil
	return []diff{{"stream of " + name, fmt.Sprint(n), text}}
}

func (p *pair) compareWatcher(n int, w *pairWatcher, sa, sb *watchStream, wa, wb *slot) []diff {
	copyOf := func(stream *watchStream, s *slot) ([]*mvccpb.Event, *pb.WatchResponse, error) {
		stream.mu.Lock()
		defer stream.mu.Unlock()
		return slices.Clone(s.events[min(w.compared, len(s.events)):]), s.cancelled, stream.err
	}
	ea, ca, erra := copyOf(sa, wa)
	eb, cb, errb := copyOf(sb, wb)
	diffs := compareEvents("events", ea, eb)
	due := w.expected - w.compared
	for _, side := range []struct {
		name   string
		events int
		err    error
	}{{p.a.name, len(ea), erra}, {p.b.name, len(eb), errb}} {
		if side.err != nil {
			diffs = append(diffs, diff{"stream", side.name, side.err.Error()})
		} else if side.events != due {
			diffs = append(diffs, diff{"events.count", fmt.Sprintf("%d due by the history", due),
				fmt.Sprintf("%d came from %s (stream %d, id %d)", side.events, side.name, n, w.id)})
		}
	}
	w.compared = w.expected
	switch {
	case ca == nil && cb == nil:
		if w.compacts {
			diffs = append(diffs, diff{"cancelled as compacted", "no", "no"})
		}
	case ca == nil || cb == nil:
		diffs = append(diffs, diff{"cancelled", fmt.Sprint(ca != nil), fmt.Sprint(cb != nil)})
	default:
		var inner []diff
		compareMessages("cancelled", ca.ProtoReflect(), cb.ProtoReflect(), &inner)
		diffs = append(diffs, inner...)
		if !w.compacts {
			diffs = append(diffs, diff{"cancelled without reason", dump(ca.ProtoReflect()), dump(cb.ProtoReflect())})
		}
	}
	return diffs
}

func (p *pair) runWatchCancel(op *Op) []diff {
	known, err := p.stream(op.Stream)
	if err != nil {
		return []diff{{"stream", "opens", err.Error()}}
	}
	if diffs := p.settle(); len(diffs) > 0 {
		return diffs
	}
	request := op.request().(*pb.WatchCancelRequest)
	var w *pairWatcher
	p.last.options, p.last.row = []string{"id.unknown"}, "Ignored"
	if op.Watch == cancelsCompacted {
		return p.cancelCompacted(op, known)
	}
	if op.Watch >= 0 {
		if len(known.open) == 0 {
			return nil
		}
		w = known.open[op.Watch%len(known.open)]
		request.WatchId = w.id
	} else if i := slices.IndexFunc(known.open, func(w *pairWatcher) bool { return w.id == request.WatchId }); i >= 0 {
		w = known.open[i]
	}
	p.last.request = request
	message := &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CancelRequest{CancelRequest: request}}
	ea, eb := both(p, func(s *side) error { return s.streams[op.Stream].send(message) })
	if ea != nil || eb != nil {
		return []diff{{"stream", fmt.Sprint(ea), fmt.Sprint(eb)}}
	}
	if w == nil {
		return nil // no answer may come; one that does is a problem of the stream at the next settling
	}
	p.last.options, p.last.row = []string{"id.open"}, "Cancelled"
	a, b := both(p, func(s *side) answer {
		stream := s.streams[op.Stream]
		var got answer
		waitUntil(s, settleTimeout, func() bool {
			stream.mu.Lock()
			defer stream.mu.Unlock()
			got.err = stream.err
			if cancelled := stream.slots[w.slot].cancelled; cancelled != nil {
				got.message = cancelled
			}
			return got.err != nil || got.message != nil
		})
		if got.message == nil && got.err == nil {
			got.err = fmt.Errorf("no cancelled response")
		}
		return got
	})
	p.last.a, p.last.b = a, b
	known.open = slices.DeleteFunc(known.open, func(o *pairWatcher) bool { return o == w })
	return compareAnswers(a, b)
}

// cancelCompacted: a real server keeps a watcher that it has cancelled as compacted until the client
// cancels it too, and answers that.
func (p *pair) cancelCompacted(op *Op, known *pairStream) []diff {
	p.last.options, p.last.row = nil, ""
	if len(known.compacted) == 0 {
		return nil
	}
	last := len(known.compacted) - 1
	request := &pb.WatchCancelRequest{WatchId: known.compacted[last]}
	known.compacted = known.compacted[:last]
	p.last.request = request
	p.last.options, p.last.row = []string{"id.compacted"}, "Cancelled"
	a, b := both(p, func(s *side) answer {
		stream := s.streams[op.Stream]
		var got answer
		if err := stream.send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CancelRequest{CancelRequest: request}}); err != nil {
			return answer{err: err}
		}
		waitUntil(s, settleTimeout, func() bool {
			stream.mu.Lock()
			defer stream.mu.Unlock()
			if len(stream.strays) > known.strays {
				got.message = stream.strays[known.strays]
			}
			return got.message != nil || stream.err != nil
		})
		if got.message == nil {
			got.err = fmt.Errorf("no answer to cancelling a watcher that was cancelled as compacted")
		}
		return got
	})
	known.strays++
	p.last.a, p.last.b = a, b
	return compareAnswers(a, b)
}

// runWatchAsk asks for progress. A server drops the question while a watcher is behind, without
// telling, so it is repeated until the answer comes where one is due.
func (p *pair) runWatchAsk(op *Op) []diff {
	known, err := p.stream(op.Stream)
	if err != nil {
		return []diff{{"stream", "opens", err.Error()}}
	}
	if diffs := p.settle(); len(diffs) > 0 {
		return diffs
	}
	message := &pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}}}
	// One watcher that is not synced keeps the whole stream silent: one that starts in the future, and
	// one that was cancelled as compacted too, until the client cancels it.
	future := slices.ContainsFunc(known.open, func(w *pairWatcher) bool { return w.request.StartRevision > p.current })
	if len(known.open) == 0 || future || len(known.compacted) > 0 {
		p.last.options, p.last.row = []string{"watchers.none"}, "Silent"
		switch {
		case future:
			p.last.options = []string{"watchers.future"}
		case len(known.open) > 0:
			p.last.options = []string{"watchers.compacted"}
		}
		ea, eb := both(p, func(s *side) error { return s.streams[op.Stream].send(message) })
		if ea != nil || eb != nil {
			return []diff{{"stream", fmt.Sprint(ea), fmt.Sprint(eb)}}
		}
		return nil
	}
	p.last.options, p.last.row = []string{"watchers.synced"}, "Answered"
	ask := func(s *side) answer {
		stream := s.streams[op.Stream]
		var got answer
		deadline := time.Now().Add(settleTimeout)
		for n := 1; time.Now().Before(deadline); n++ {
			if err := stream.send(message); err != nil {
				return answer{err: err}
			}
			found := waitUntil(s, 150*time.Millisecond, func() bool {
				stream.mu.Lock()
				defer stream.mu.Unlock()
				for _, r := range stream.progress {
					if r.Header.GetRevision() >= p.current {
						got = answer{message: r}
						return true
					}
				}
				got.err = stream.err
				return got.err != nil
			})
			if found {
				return got
			}
		}
		return answer{err: fmt.Errorf("no answer to a progress request")}
	}
	a, b := both(p, ask)
	known.sends++
	p.last.a, p.last.b = a, b
	return compareAnswers(a, b)
}

func (p *pair) runWatchClose(op *Op) []diff {
	known := p.streams[op.Stream]
	if known == nil {
		return nil
	}
	diffs := p.settle()
	for _, s := range []*side{p.a, p.b} {
		stream := s.streams[op.Stream]
		stream.mu.Lock()
		if known.sends == 0 && len(stream.progress) > 0 && !oldVersion(s.version) {
			diffs = append(diffs, diff{"progress of " + s.name, "none due", dump(stream.progress[0].ProtoReflect())})
		}
		stream.mu.Unlock()
		stream.cancel()
		delete(s.streams, op.Stream)
	}
	delete(p.streams, op.Stream)
	return diffs
}

// fromMemory tells whether the oracle answered a HashKV from a hash that it remembered of a sweep: it then names the
// compaction before, or answers where the other side says compacted.
func fromMemory(diffs []diff) bool {
	return slices.ContainsFunc(diffs, func(d diff) bool {
		if d.field == "code" {
			return d.a == "OK" && d.b == "OutOfRange"
		}
		a, errA := strconv.ParseInt(d.a, 10, 64)
		b, errB := strconv.ParseInt(d.b, 10, 64)
		return d.field == "compact_revision" && errA == nil && errB == nil && a < b
	})
}
