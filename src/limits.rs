//! Every bound of the server: unit, reason, what happens at the bound.
//!
//! Relations between bounds are proven at compile time under each group.

/// Requests and what they may hold.
pub mod request {
    /// Bytes that a connection's long answers keep: references to records that are to be sent, and requests of those
    /// under way. Beyond: its next long answer is made when the client has taken some; short ones are made all the same.
    /// One answer may keep more, as long as its key space makes it.
    pub const KEPT_ANSWERS_BYTES_MAX: usize = 384 * 1024;
    /// More for a client that reads: one in so many of the bytes that it was sent in the last seconds. Beside one list of a
    /// gigabyte, its others go on when a part of that has left.
    pub const KEPT_ANSWERS_EARNED_PARTS: u64 = 8;
    /// That at most.
    pub const KEPT_ANSWERS_EARNED_BYTES_MAX: u64 = 64 << 20;
    /// Requests that wait for that. Beyond: the connection's further requests are not looked at.
    pub const WAITING_LISTS_BYTES_MAX: usize = 256 * 1024;
    /// Long answers of a connection that are made at once; a transaction's, which is made in one piece, is made alone.
    /// Beyond: they wait in the same way.
    pub const LONG_ANSWERS_MAX: u32 = 4;
    /// Bytes of answers that wait on a stream while its client goes on asking. Beyond: its requests wait.
    pub const UNREAD_ANSWERS_BYTES_MAX: usize = 256 * 1024;
    /// Bytes of a marshalled log entry, `--max-request-bytes`. Beyond: `etcdserver: request is too large`.
    pub const REQUEST_BYTES_MAX_DEFAULT: usize = 1_572_864;
    /// Envelope that etcd adds to the former for the gRPC receive limit. Beyond: ResourceExhausted.
    pub const ENVELOPE_BYTES: usize = 512 * 1024;
    /// Operations of a transaction, nested ones included, `--max-txn-ops`.
    pub const TXN_OPS_MAX_DEFAULT: usize = 128;
    /// Nesting of protobuf messages in a decoder. Beyond: the message is refused as undecodable.
    pub const PROTOBUF_DEPTH_MAX: usize = 300;
    /// Lease TTL in seconds. Beyond: `etcdserver: too large lease TTL`.
    pub const LEASE_TTL_SECONDS_MAX: i64 = 9_000_000_000;
    /// Committed entries not yet applied. Beyond: `etcdserver: too many requests`.
    pub const APPLY_BACKLOG_ENTRIES_MAX: u64 = 5_000;
    /// Proposals of one shard not yet answered (its credits). Beyond: the stream is not read.
    pub const PROPOSALS_OUTSTANDING_MAX: usize = 4_096;
    /// Bytes of those proposals. Beyond: as above.
    pub const PROPOSAL_BYTES_OUTSTANDING_MAX: usize = 64 << 20;
}

/// Responses.
pub mod response {
    /// Stored messages up to here are copied into a response; larger ones are sent from where they lie.
    /// A piece of its own costs a send about as much as copying this many bytes.
    pub const RECORD_COPIED_BYTES_MAX: usize = 4_096;
    /// Records of a range that are answered in one piece. Beyond: the answer is made part by part, as the client
    /// takes it.
    pub const WHOLE_RECORDS_MAX: usize = 64;
    /// Bytes of such a part, about.
    pub const PART_BYTES: usize = 64 * 1024;
    /// Bytes of an answer that are made at the price of one unit of work.
    pub const BYTES_PER_UNIT: usize = 512;
}

/// HTTP/2 and gRPC, per connection unless said otherwise.
pub mod http2 {
    /// Payload of a frame that we accept and send (RFC 9113 default). Beyond: FRAME_SIZE_ERROR.
    pub const FRAME_BYTES_MAX: usize = 16_384;
    /// Compressed header block over all CONTINUATION frames. Beyond: connection closed.
    pub const HEADER_BLOCK_BYTES_MAX: usize = 32 * 1024;
    /// CONTINUATION frames of a block. Beyond: connection closed.
    pub const CONTINUATION_FRAMES_MAX: usize = 8;
    /// Decoded header list, name + value + 32 each. Beyond: connection closed.
    pub const HEADER_LIST_BYTES_MAX: usize = 64 * 1024;
    /// HPACK dynamic table of the decoder.
    pub const HPACK_TABLE_BYTES_MAX: usize = 4_096;
    /// Changes of the table's size in one header block. Beyond: COMPRESSION_ERROR.
    pub const HPACK_SIZE_UPDATES_MAX: usize = 2;
    /// Live streams whatever the settings say; their tables take some 4 MiB. Beyond: REFUSED_STREAM.
    pub const STREAMS_LIVE_MAX: usize = 20_000;
    /// Memory of a connection's streams, of calls that wait to be made, of answers that wait to be sent. Beyond: new
    /// streams get REFUSED_STREAM, which clients may send again. From `SERVED_BYTES_MAX` on nothing is read while
    /// the socket alone holds the answers back, so that this is for clients that close their windows.
    pub const SERVING_BYTES_MAX: usize = 11 << 19;
    /// See the former.
    pub const SERVED_BYTES_MAX: usize = 3 << 19;
    /// Our receive window of a stream. A longer message gets more in its turn, see `LONG_MESSAGE_BYTES_AT_ONCE`.
    pub const STREAM_WINDOW_BYTES: u32 = 64 * 1024;
    /// Our receive window of a connection.
    pub const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;
    /// Bytes of messages longer than a stream's window that are let in at a time; one at least. Beyond: they wait for
    /// their turn, with a window's worth here each. So a client may begin as many as it likes.
    pub const LONG_MESSAGE_BYTES_AT_ONCE: usize = 4 << 20;
    /// Control replies (PING and SETTINGS acks, RST) waiting to be sent. Beyond: connection closed.
    pub const CONTROL_REPLIES_MAX: usize = 256;
    /// Bytes of answers queued on a stream before its producer has to wait.
    pub const STREAM_SEND_BYTES_MAX: usize = 256 * 1024;
    /// Bytes of answers queued on a connection before its producers have to wait.
    pub const CONNECTION_SEND_BYTES_MAX: usize = 2 << 20;
    /// Of the former, what each stream may queue whatever the others do: one that is not read must not silence all.
    pub const STREAM_SEND_BYTES_MIN: usize = 4 * 1024;
    /// Bytes of answers queued on a connection if all but `CONNECTION_SEND_BYTES_MAX` of them wait for the windows of
    /// their own streams. Beyond: its requests wait.
    pub const STALLED_SEND_BYTES_MAX: usize = 64 << 20;
    /// Of the former, memory of their own: most of a long answer lies in the key space. What watch streams queue
    /// does not count, its producers have the bounds above. Beyond: requests wait.
    pub const ANSWER_BYTES_MAX: usize = 1 << 20;
    /// Frames ready to be sent that don't wait for a window (heads, trailers, control). Beyond: connection
    /// closed; from a quarter of it on the session takes no input.
    pub const OUTPUT_BYTES_MAX: usize = 1 << 20;
    /// Whole short answers join those frames directly. Beyond: they are queued on their streams.
    pub const DIRECT_OUTPUT_BYTES_MAX: usize = 64 * 1024;
    /// Pieces of answers up to this are copied together, longer ones are sent from where they lie.
    pub const COPIED_PIECE_BYTES_MAX: usize = 4 * 1024;
    /// Finished streams whose late frames are still understood. Beyond: they are answered as closed streams.
    pub const FINISHED_STREAMS_REMEMBERED: usize = 256;
    /// Frames without effect (PING, empty DATA, WINDOW_UPDATE that frees nothing ...): burst. Useful frames earn
    /// some back. Beyond: ENHANCE_YOUR_CALM.
    pub const CHEAP_FRAMES_BURST: u32 = 10_000;
    /// What comes back of those each second.
    pub const CHEAP_FRAMES_PER_SECOND: u32 = 1_000;
    /// Frames that came too late to know that we had refused, reset or answered their stream: so many for each such end
    /// are no frames without effect. As many DATA frames as fill a stream's window, a WINDOW_UPDATE, an RST_STREAM.
    /// Beyond: they are.
    pub const LATE_FRAMES_PER_STREAM: u32 = 6;
    /// The same for all such ends together: a client may begin 100,000 puts at once, which are refused before their
    /// DATA comes, and a hostile one saves up no more. Beyond: as above.
    pub const LATE_FRAMES_MAX: u32 = 100_000;
    /// SETTINGS frames: burst. Beyond: ENHANCE_YOUR_CALM.
    pub const SETTINGS_FRAMES_BURST: u32 = 20;
    /// What comes back of those each second.
    pub const SETTINGS_FRAMES_PER_SECOND: u32 = 2;
    /// Of the next one, what does not delay new requests yet. Beyond: they wait until time has paid for the rest.
    pub const RESETS_UNDELAYED_MAX: u32 = 1_000;
    /// Streams that the client reset, or made us reset, before their end: burst. Answered requests earn them back:
    /// timeouts of many clients in an outage are legal. A stream costs nothing if at least as much of its answer was
    /// sent as waits, or `FRAME_BYTES_MAX`: closing a watch is legal. Beyond: ENHANCE_YOUR_CALM.
    pub const RESETS_BURST: u32 = 10_000;
    /// What comes back of those each second.
    pub const RESETS_PER_SECOND: u32 = 1_000;
    /// Bytes of unfinished messages, and of what comes on streams whose requests wait. Beyond: the stream that adds
    /// more is reset, with REFUSED_STREAM if nothing was done for it. It is far more than the other bounds of a
    /// connection because a client that sends 2,000 large puts at once, by turns, has a window's worth of each here before
    /// the first is whole; windows can't tell it to finish one after the other, for the connection's window is open to
    /// all streams: held back, it would stop those that could end. Many such connections meet `SHARD_HELD_BYTES_MAX`.
    pub const UNFINISHED_MESSAGE_BYTES_MAX: usize = 160 << 20;
    /// Bytes of whole messages that wait for the end of their request or were inflated, and of metadata of requests
    /// without a message. Beyond: as above.
    pub const WAITING_BYTES_MAX: usize = 3 << 20;
    /// Events of a connection that its driver has not taken. Beyond: no input is taken.
    pub const EVENTS_WAITING_MAX: usize = 4_096;
    /// Text of a status, before percent-encoding. Beyond: cut.
    pub const STATUS_TEXT_BYTES_MAX: usize = 4_096;
    /// What follows `application/grpc+` in content-type, to be echoed. Beyond: 415.
    pub const CONTENT_SUBTYPE_BYTES_MAX: usize = 128;
    /// Seconds from accept to the end of the preface, from there to SETTINGS and the acknowledgement of ours, and for
    /// an HTTP/1 head once begun. Beyond: closed.
    pub const HANDSHAKE_SECONDS: u64 = 10;
    /// Seconds for a header block, or a frame other than DATA, once begun. Beyond: ENHANCE_YOUR_CALM.
    pub const UNFINISHED_FRAME_SECONDS: u64 = 10;
    /// Seconds that an HTTP/1 client may be silent between requests or within a body. Beyond: closed.
    pub const HTTP1_IDLE_SECONDS: u64 = 300;
    /// Seconds that the client of a connection that is over has for taking the last bytes. Beyond: cut.
    pub const LINGER_SECONDS: u64 = 10;
    /// HTTP/1 header fields. Beyond: 431 and close.
    pub const HTTP1_FIELDS_MAX: usize = 64;
    /// HTTP/1 request body (a request of `REQUEST_BYTES_MAX_DEFAULT` in base64, and more). Beyond: 413 and close.
    pub const HTTP1_BODY_BYTES_MAX: usize = 4 << 20;
    /// HTTP/1 request head. Beyond: 431 and close.
    pub const HTTP1_HEAD_BYTES_MAX: usize = 16 * 1024;

    /// Capacity of buffers that a connection keeps for its next request. Beyond: given back.
    pub const KEPT_CAPACITY_BYTES: usize = 4 * 1024;
    /// The same in events that waited.
    pub const KEPT_EVENTS: usize = 64;

    const _: () = assert!(RESETS_UNDELAYED_MAX < RESETS_BURST);
    const _: () =
        assert!(LATE_FRAMES_PER_STREAM as usize >= STREAM_WINDOW_BYTES as usize / FRAME_BYTES_MAX + 2);
    const _: () = assert!(STREAM_WINDOW_BYTES <= CONNECTION_WINDOW_BYTES);
    const _: () = assert!(STREAM_SEND_BYTES_MAX <= CONNECTION_SEND_BYTES_MAX);
    const _: () = assert!(STREAM_SEND_BYTES_MIN <= STREAM_SEND_BYTES_MAX / 2);
    const _: () = assert!(CONNECTION_SEND_BYTES_MAX <= STALLED_SEND_BYTES_MAX);
    const _: () = assert!(DIRECT_OUTPUT_BYTES_MAX + FRAME_BYTES_MAX < OUTPUT_BYTES_MAX / 4);
    // A status percent-encodes to three times its length and has to fit one HEADERS frame.
    const _: () = assert!(3 * STATUS_TEXT_BYTES_MAX + 1_024 <= FRAME_BYTES_MAX);
    const _: () = assert!(ANSWER_BYTES_MAX < SERVED_BYTES_MAX && SERVED_BYTES_MAX < SERVING_BYTES_MAX);
    // A whole message fits beside what all streams have begun.
    const _: () = assert!(
        LONG_MESSAGE_BYTES_AT_ONCE + super::request::REQUEST_BYTES_MAX_DEFAULT
            <= UNFINISHED_MESSAGE_BYTES_MAX / 2
    );
    const _: () = assert!(COPIED_PIECE_BYTES_MAX < FRAME_BYTES_MAX);
}

/// Slices of long work (units as in `stdx::work`).
pub mod slice {
    /// Apply, per turn.
    pub const APPLY_UNITS: u32 = 1_000;
    /// Requests of one connection, before the others have their turn: looking at them, inflating them, the beginning of
    /// their reads.
    pub const EVENTS_UNITS: u32 = 2_048;
    /// Requests of all connections of a shard, per turn.
    pub const EVENTS_UNITS_PER_TURN: u32 = 16_384;
    /// One event of a client, beside its bytes and what is read for it.
    pub const EVENT_UNITS: u32 = 8;
    /// The beginning of a read: a page of 500, as Kubernetes asks for, is answered at once.
    pub const READ_BEGIN_UNITS: u32 = 600;
    /// All long reads of a shard, per turn.
    pub const RANGE_UNITS: u32 = 128;
    /// One long read, before the next one has its turn.
    pub const RANGE_QUANTUM_UNITS: u32 = 128;
    /// Cleaning behind a compaction, per turn.
    pub const CLEAN_UNITS: u32 = 500;
    /// Watch delivery of a shard, per turn.
    pub const WATCH_UNITS: u32 = 1_000;
}

/// Watches.
pub mod watch {
    /// Watches on one stream. Beyond: created and cancelled at once.
    pub const WATCHES_PER_STREAM_MAX: usize = 1_000_000;
    /// Distinct revisions that one catch-up response holds at most (as etcd).
    pub const CATCH_UP_REVISIONS_MAX: usize = 1_000;
    /// Watches of a member, all shards together, but for those that were asked for in one turn. Beyond: created and
    /// cancelled at once.
    pub const WATCHES_MAX: usize = 4_000_000;
    /// Bytes of events that one turn queues on a watch stream whose client has taken all before. Beyond: its watchers
    /// turn behind. Enough for some revisions to a thousand watchers of one key.
    pub const STREAM_QUEUE_BYTES_MAX: usize = 4 << 20;
    /// Bytes queued on a watch stream whose client has not taken what came before, beside the next bound. Beyond: its
    /// watchers turn behind and cost nothing until it reads. Encoded events are shared by their watchers, so that the
    /// memory is mostly far less. In its session wait at most half as many, copies of its own; then a send, which takes
    /// as much. 1,000 stalled streams of one watch thus hold 35 MiB here, 18 MiB in sessions and 18 MiB in sends, and
    /// one message more each. Some hundred events, so that turning behind and catching up add little to each.
    pub const STALLED_QUEUE_BYTES: usize = 32 * 1024;
    /// More for each watch of the stream, up to `STREAM_QUEUE_BYTES_MAX`: each of them has to catch up by itself.
    pub const STALLED_QUEUE_BYTES_PER_WATCH: usize = 4 * 1024;
    /// Bytes queued on all watch streams of a shard. The fuller, the less may be queued on those whose clients do not
    /// read: at most a part of what is left. Beyond: nothing, unless a queue is empty.
    pub const QUEUES_BYTES_MAX: usize = 64 << 20;
    /// That part, one in so many.
    pub const QUEUES_PARTS: usize = 4;
    /// What a queued message counts for beside its events: its slot and its envelope.
    pub const MESSAGE_OVERHEAD_BYTES: usize = 64;
    /// Records from which an event refers to the stored message instead of copying it.
    pub const RECORD_SHARED_BYTES_MIN: usize = 4 * 1024;
    /// Revisions below the newest within which a lagging watcher is served by the short sweep, so that
    /// it never waits for one that comes from far behind.
    pub const NEAR_REVISIONS: i64 = 2_000;
    /// Distinct lengths of prefixes found by hash. Beyond: further lengths go to the tree.
    pub const HASHED_LENGTHS_MAX: usize = 16;
    /// Longest prefix found by hash, so that a long key costs little hashing. Beyond: the tree.
    pub const HASHED_PREFIX_BYTES_MAX: usize = 256;
    /// Work units that one flow takes before the next one gets its turn.
    pub const QUANTUM_UNITS: u32 = 64;
    /// Time between two periodic progress messages, `--watch-progress-notify-interval`.
    pub const PROGRESS_INTERVAL_MILLIS_DEFAULT: u64 = 600_000;
    /// Shortest such interval. Below: raised to this (as etcd).
    pub const PROGRESS_INTERVAL_MILLIS_MIN: u64 = 100;

    const _: () = assert!(WATCHES_PER_STREAM_MAX <= WATCHES_MAX);
    const _: () = assert!(STALLED_QUEUE_BYTES + STALLED_QUEUE_BYTES_PER_WATCH <= STREAM_QUEUE_BYTES_MAX);
    const _: () = assert!(STREAM_QUEUE_BYTES_MAX * QUEUES_PARTS <= QUEUES_BYTES_MAX);
    const _: () = assert!(PROGRESS_INTERVAL_MILLIS_MIN <= PROGRESS_INTERVAL_MILLIS_DEFAULT);
    const _: () = assert!(QUANTUM_UNITS <= super::slice::WATCH_UNITS);
}

/// The write-ahead log.
pub mod log {
    /// Alignment of a batch and of its parts on disk.
    pub const BLOCK_BYTES: usize = 4_096;
    /// The very first segment, small so that an empty directory starts at once.
    pub const SEGMENT_BYTES_FIRST: u64 = 4 << 20;
    /// Every later segment.
    pub const SEGMENT_BYTES: u64 = 64 << 20;
    /// Payload that one batch takes. Beyond: the rest waits for the next batch.
    pub const BATCH_BYTES_MAX: usize = 4 << 20;
    /// Payload of one entry, an assertion: the length fields of the format have 32 bits and a batch
    /// that holds only this entry has to fit. Requests are refused far below it.
    pub const ENTRY_BYTES_MAX: usize = 1 << 30;
    /// Kept back of a segment whose successor could not be made, for hard states and the leader's own
    /// entries. Beyond: `etcdserver: no space` to proposals, writing waits for the next segment.
    pub const ROOM_RESERVE_BYTES: u64 = 128 << 10;

    const _: () = assert!(ROOM_RESERVE_BYTES < SEGMENT_BYTES_FIRST / 2);
    const _: () = assert!((BATCH_BYTES_MAX as u64) < SEGMENT_BYTES);
    const _: () = assert!(ENTRY_BYTES_MAX < u32::MAX as usize - BATCH_BYTES_MAX);
    /// Buffers registered with the ring: one being written, one being filled. Beyond: unregistered ones.
    pub const REGISTERED_BUFFERS: u16 = 2;
    /// Bytes of each; they count against RLIMIT_MEMLOCK (8 MiB by default). A larger batch: unregistered.
    pub const REGISTERED_BUFFER_BYTES: usize = 1 << 20;
    /// Time for which the lock of the data directory is retried: a killed process holds it some 40 ms more.
    pub const LOCK_RETRY_MILLISECONDS: u64 = 3_000;
    /// A write with `RWF_DSYNC` that takes less is never called slow. Beyond, and not the first of
    /// `FLAG_SLOW_WITHIN_WRITES`: the next `FLAG_PAUSE_WRITES_MIN` go without the flag, and are the measure for the next
    /// with it.
    pub const FLAG_SLOW_NANOSECONDS_MIN: u64 = 3_000_000;
    /// Quick writes with the flag after which a slow one stands alone.
    pub const FLAG_SLOW_WITHIN_WRITES: u32 = 64;
    /// Writes of the first pause from the flag, and of the quick ones in a row after which a pause is the first again.
    pub const FLAG_PAUSE_WRITES_MIN: u32 = 1_024;
    /// Writes of the longest; each pause doubles the next.
    pub const FLAG_PAUSE_WRITES_MAX: u32 = 65_536;
    /// Writes with the flag that are not looked at after both ways were found slow.
    pub const FLAG_PARDONED_WRITES: u32 = 1_024;
    /// Turns in a row that a loop makes without sleeping before its writes are followed by an `fdatasync`: it has more
    /// work than what a write itself brings about.
    pub const FLAG_BUSY_TURNS: u32 = 64;
    /// Writes in a row during which nothing else was to be done, after which the loop makes the next itself and waits for
    /// it: some 50 ms of one client's puts.
    pub const ALONE_WRITES: u32 = 256;
    /// A write that took longer ends that for a while: whoever comes would wait too long.
    pub const ALONE_NANOSECONDS_MAX: u64 = 1_000_000;
    /// Quick writes after a slow one, before the loop makes them itself again. Few, because a disk has its moods: one
    /// slow write of a hundred would end it for most of the time.
    pub const ALONE_WRITES_AFTER_SLOW: u32 = 32;
    /// A write of the loop's own that took longer is added to the deadlines of all leases: keepalives that came in time
    /// were not heard. What is shorter is nothing to leases of seconds.
    pub const DEAF_NANOSECONDS_MIN: u64 = 10_000_000;
    /// Segments that the helper thread is asked to prepare at a time. Beyond: a bug, the loop asks for one.
    pub const PREPARATIONS_MAX: usize = 8;

    const _: () = assert!(REGISTERED_BUFFER_BYTES.is_multiple_of(BLOCK_BYTES));
    const _: () = assert!(SEGMENT_BYTES_FIRST.is_multiple_of(BLOCK_BYTES as u64));
    const _: () = assert!(SEGMENT_BYTES.is_multiple_of(BLOCK_BYTES as u64));
}

/// Connections and buffers of one shard.
pub mod shard {
    /// Receive buffers lent to the kernel.
    pub const RECEIVE_BUFFERS: u16 = 512;
    /// Bytes of each.
    pub const RECEIVE_BUFFER_BYTES: usize = 16 * 1024;
    /// Turn on a processor that a core's thread asks of the scheduler, the shortest that it knows: a core that wakes is
    /// not kept waiting by programs that compute for long.
    pub const TURN_NANOSECONDS: u64 = 100_000;
    /// Turns in a row in which one wish came from the same processor, after which the first core runs there, too, as long
    /// as it serves nobody else. A shard that moves about sooner is not followed: each time costs a system call.
    pub const BESIDE_WISHES: u32 = 16;
    /// Operations queued for one submission. Beyond: submitted early.
    pub const SUBMISSION_ENTRIES: u32 = 512;
    /// Completions that the kernel queues. Beyond: kept by the kernel, slower.
    pub const COMPLETION_ENTRIES: u32 = 4 * SUBMISSION_ENTRIES;
    /// Completions taken in one turn of the loop. Beyond: the next turn, which does not sleep.
    pub const COMPLETIONS_PER_TURN: usize = 1_024;
    /// Descriptors whose readiness one call of epoll reports. Beyond: the next call.
    pub const READINESS_PER_TURN: usize = 512;
    /// Connections accepted from one listener in one turn of an epoll loop. Beyond: the next turn.
    pub const ACCEPTS_PER_TURN: usize = 64;
    /// Connections waiting to be accepted (the kernel cuts it to net.core.somaxconn).
    pub const LISTEN_BACKLOG: i32 = 4_096;
    /// Time for which a busy address is retried: a killed process holds it some 10 ms more.
    pub const BIND_RETRY_MILLISECONDS: u64 = 3_000;
    /// Pause of a listener whose accept has failed for want of something, so that it doesn't spin.
    pub const ACCEPT_PAUSE_MILLISECONDS: u64 = 10;
    /// TCP keepalive: idle time and interval, as etcd's listeners.
    pub const TCP_KEEPALIVE_SECONDS: i32 = 30;
    /// Bytes of one send, about. The rest follows when it is done.
    pub const SEND_BYTES_MAX: usize = 128 * 1024;
    /// Unsent bytes up to which a connection is served before those with more.
    pub const SEND_SMALL_BYTES_MAX: usize = 16 * 1024;
    /// Bytes of one send of a connection with more, while others like it wait.
    pub const SEND_QUANTUM_BYTES: usize = 32 * 1024;
    /// Bytes of all such sends in one turn. Beyond: the next turn.
    pub const SEND_BYTES_PER_TURN: usize = 32 * 1024;
    /// Pieces (iovecs) of one send.
    pub const SEND_PIECES_MAX: usize = 64;
    /// Connections that have not finished their handshake. Beyond: the oldest are closed, but none that is younger
    /// than `HANDSHAKE_GRACE_MILLISECONDS`: after a restart all clients come at once.
    pub const HANDSHAKES_MAX: usize = 1_000;
    /// See the former.
    pub const HANDSHAKE_GRACE_MILLISECONDS: u64 = 1_000;
    /// Bytes that the sessions of a shard hold for their clients: requests under way, messages, answers not sent
    /// (without the values that the key space holds anyway). Beyond: of connections that hold more than their share of
    /// half of it, new streams are refused with REFUSED_STREAM, streams whose messages are unfinished are reset when
    /// they add to them, and HTTP/1 bodies get 503; stalled clients are cut sooner, also those that don't end
    /// requests. The others are served: together they hold at most half as much again.
    pub const SHARD_HELD_BYTES_MAX: usize = 512 << 20;
    /// Seconds for which a client may take nothing of what waits for it. Beyond: closed; a watch then resumes by
    /// revision.
    pub const STALLED_SECONDS: u64 = 600;
    /// The same while sessions hold more than `SHARD_HELD_BYTES_MAX`.
    pub const STALLED_SECONDS_PRESSED: u64 = 30;
    /// Seconds between two looks at who is stalled.
    pub const STALLED_LOOK_SECONDS: u64 = 10;
    /// Connections of a shard, however many descriptors there are. Beyond: closed as soon as accepted.
    pub const CONNECTIONS_MAX: u64 = 1 << 20;
    /// Threads of a server. Beyond: it does not start.
    pub const SHARDS_MAX: usize = 1_024;
    /// Up to so many cores the first one serves clients beside its sequencing; with more it only sequences.
    pub const SERVING_FIRST_CORES_MAX: usize = 4;
    /// Connections on their way from the first core to another. Beyond: the client is turned away.
    pub const CONNECTIONS_ON_THEIR_WAY_MAX: usize = 4_096;
    /// File descriptors kept back from clients for files and the log, as etcd does. With no more: it does not start.
    pub const RESERVED_DESCRIPTORS: u64 = 150;
    /// Seconds between two warnings that clients are turned away. In between: they are turned away silently.
    pub const TURNED_AWAY_WARNING_SECONDS: u64 = 60;

    const _: () = assert!(RECEIVE_BUFFERS.is_power_of_two() && RECEIVE_BUFFERS <= 1 << 15);
    const _: () = assert!(RECEIVE_BUFFER_BYTES.is_multiple_of(super::log::BLOCK_BYTES));
    const _: () =
        assert!(COMPLETION_ENTRIES as usize > SUBMISSION_ENTRIES as usize + RECEIVE_BUFFERS as usize);
}

/// The key space.
pub mod mvcc {
    /// A segment of records in memory. A larger record gets a segment of its own size.
    pub const SEGMENT_BYTES: usize = 1 << 20;
    /// A sealed segment is rewritten when more than this share of it is dead.
    pub const SEGMENT_DEAD_PERCENT: u64 = 50;
}
