// Program descriptors writes the descriptors of the etcd API's messages, for clients that make them
// at run time.
package main

import (
	"os"

	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/descriptorpb"
)

func main() {
	set := &descriptorpb.FileDescriptorSet{}
	for _, m := range []proto.Message{&mvccpb.KeyValue{}, &authpb.User{}, &pb.RangeRequest{}} {
		file := protodesc.ToFileDescriptorProto(m.ProtoReflect().Descriptor().ParentFile())
		// Of what the files import only each other's messages are needed, and not always is the name
		// they import them by the one they have.
		file.Dependency, file.PublicDependency, file.WeakDependency, file.Service, file.Options = nil, nil, nil, nil, nil
		for _, earlier := range set.File {
			file.Dependency = append(file.Dependency, earlier.GetName())
		}
		set.File = append(set.File, file)
	}
	data, err := proto.Marshal(set)
	if err != nil {
		panic(err)
	}
	os.Stdout.Write(data)
}
