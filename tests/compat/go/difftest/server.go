package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// server is a process under test, or just an endpoint that somebody else runs.
type server struct {
	name     string
	endpoint string
	dir      string
	process  *exec.Cmd
	exited   chan struct{}
}

// advertised is what both servers say their peer URL is: member and cluster ids are made from it,
// so equal ones give equal ids. Nobody ever dials it.
const advertised = "http://127.0.0.1:2380"

func freePort() int {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fatal("no free port: %v", err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func startServer(name, template string) (*server, error) {
	dir, err := os.MkdirTemp("", "etchd-difftest-"+name+"-")
	if err != nil {
		return nil, err
	}
	s := &server{name: name, dir: dir, exited: make(chan struct{})}
	client, peer := freePort(), freePort()
	s.endpoint = fmt.Sprintf("127.0.0.1:%d", client)
	command := strings.NewReplacer(
		"{dir}", filepath.Join(dir, "data"),
		"{client}", fmt.Sprintf("http://127.0.0.1:%d", client),
		"{peer}", fmt.Sprintf("http://127.0.0.1:%d", peer),
		"{advertise}", advertised,
	).Replace(template)
	words := strings.Fields(command)
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	s.process = exec.Command(words[0], words[1:]...)
	s.process.Stdout, s.process.Stderr = log, log
	// A difftest that is killed must not leave servers behind.
	s.process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.process.Start(); err != nil {
		return nil, fmt.Errorf("%s: %w", words[0], err)
	}
	go func() {
		s.process.Wait()
		close(s.exited)
	}()
	return s, nil
}

func (s *server) alive() bool {
	if s.process == nil {
		return true
	}
	select {
	case <-s.exited:
		return false
	default:
		return true
	}
}

func (s *server) logTail() string {
	data, _ := os.ReadFile(filepath.Join(s.dir, "log"))
	if len(data) > 3000 {
		data = data[len(data)-3000:]
	}
	return string(data)
}

func (s *server) stop() {
	if s == nil || s.process == nil {
		return
	}
	s.process.Process.Signal(syscall.SIGKILL)
	<-s.exited
	os.RemoveAll(s.dir)
}

// connect waits until the server answers a linearizable read: it then has a leader.
func (s *server) connect() (*grpc.ClientConn, error) {
	conn, err := grpc.NewClient("passthrough:///"+s.endpoint,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(1<<31-1), grpc.MaxCallSendMsgSize(1<<31-1)))
	if err != nil {
		return nil, err
	}
	deadline := time.Now().Add(60 * time.Second)
	for {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		_, err := pb.NewKVClient(conn).Range(ctx, &pb.RangeRequest{Key: []byte("up")}, grpc.WaitForReady(true))
		var status *pb.StatusResponse
		if err == nil {
			status, err = pb.NewMaintenanceClient(conn).Status(ctx, &pb.StatusRequest{})
		}
		cancel()
		// The storage version is decided a moment after the first leader: later it would change under us.
		if err == nil && (status.StorageVersion != "" || oldVersion(status.Version)) {
			return conn, nil
		}
		if !s.alive() {
			return nil, fmt.Errorf("%s exited while starting:\n%s", s.name, s.logTail())
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("%s is not ready after 60 s: %v\n%s", s.name, err, s.logTail())
		}
		select {
		case <-s.exited:
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func oldVersion(v string) bool { return strings.HasPrefix(v, "3.4.") || strings.HasPrefix(v, "3.5.") }
