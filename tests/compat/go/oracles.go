//go:build oracles

// Package compat pins what the compatibility tests build besides their own programs.
package compat

import (
	_ "github.com/summerwind/h2spec/cmd/h2spec"
	_ "go.etcd.io/etcd/etcdctl/v3"
	_ "go.etcd.io/etcd/server/v3"
)
