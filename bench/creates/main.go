// Durable creates from many connections, against Kelson's API and against etcd with the same bytes.
//
//	creates etcd  --data-dir D --listen URL        one etcd member, until it is killed
//	creates load  --target kelson|etcd --url U ... the load; prints "begin", then one line of JSON
//
// The load is the same program for both, so that its own cost is the same kind of cost.
package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
)

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "creates:", err)
		os.Exit(1)
	}
}

func main() {
	if len(os.Args) < 2 {
		check(fmt.Errorf("say etcd or load"))
	}
	switch os.Args[1] {
	case "etcd":
		serve(os.Args[2:])
	case "load":
		load(os.Args[2:])
	default:
		check(fmt.Errorf("unknown command %q", os.Args[1]))
	}
}

func serve(args []string) {
	f := flag.NewFlagSet("etcd", flag.ExitOnError)
	dir := f.String("data-dir", "", "where the member lives")
	listen := f.String("listen", "http://127.0.0.1:23790", "clients")
	peers := f.String("peers", "http://127.0.0.1:23800", "peers")
	check(f.Parse(args))
	client, err := url.Parse(*listen)
	check(err)
	peer, err := url.Parse(*peers)
	check(err)
	c := embed.NewConfig()
	c.Dir = *dir
	c.LogLevel = "error"
	c.ListenClientUrls, c.AdvertiseClientUrls = []url.URL{*client}, []url.URL{*client}
	c.ListenPeerUrls, c.AdvertisePeerUrls = []url.URL{*peer}, []url.URL{*peer}
	c.InitialCluster = c.InitialClusterFromName(c.Name)
	e, err := embed.StartEtcd(c)
	check(err)
	<-e.Server.ReadyNotify()
	fmt.Println("ready")
	check(<-e.Err())
}

// One connection's way of creating an object.
type creator func(ctx context.Context, n int, name string) error

func object(name, padding string) []byte {
	o := map[string]any{
		"apiVersion": "v1", "kind": "ConfigMap",
		"metadata": map[string]any{"name": name, "namespace": "default"},
		"data":     map[string]any{"text": padding},
	}
	b, err := json.Marshal(o)
	check(err)
	return b
}

func load(args []string) {
	f := flag.NewFlagSet("load", flag.ExitOnError)
	target := f.String("target", "kelson", "kelson or etcd")
	base := f.String("url", "", "where it listens")
	ca := f.String("ca", "", "PEM of the authority (kelson)")
	cert := f.String("cert", "", "PEM of the client certificate (kelson)")
	key := f.String("key", "", "PEM of its key (kelson)")
	connections := f.Int("connections", 64, "connections")
	seconds := f.Float64("seconds", 5, "how long")
	size := f.Int("size", 1024, "bytes of an object, about")
	prefix := f.String("prefix", "bench", "names begin with this")
	total := f.Int64("count", 0, "stop after this many instead")
	check(f.Parse(args))
	padding := strings.Repeat("x", max(0, *size-len(object("bench-00000000", ""))))

	var create creator
	switch *target {
	case "etcd":
		create = etcdCreator(*base, *connections, padding)
	default:
		create = kelsonCreator(*base, *ca, *cert, *key, *connections, padding)
	}
	// Connections are made before the clock runs.
	var warm sync.WaitGroup
	for n := range *connections {
		warm.Add(1)
		go func() {
			defer warm.Done()
			check(create(context.Background(), n, fmt.Sprintf("%s-warm-%d", *prefix, n)))
		}()
	}
	warm.Wait()
	// Only what the load itself takes from here on counts: the caller reads the servers' counters at these two signs.
	fmt.Fprintln(os.Stdout, "begin")
	time.Sleep(100 * time.Millisecond)
	var next, done, failed atomic.Int64
	var mu sync.Mutex
	var all []time.Duration
	var wg sync.WaitGroup
	begun := time.Now()
	end := begun.Add(time.Duration(*seconds * float64(time.Second)))
	for n := range *connections {
		wg.Add(1)
		go func() {
			defer wg.Done()
			var own []time.Duration
			for {
				i := next.Add(1)
				if *total > 0 && i > *total || *total == 0 && time.Now().After(end) {
					break
				}
				at := time.Now()
				if err := create(context.Background(), n, fmt.Sprintf("%s-%08d", *prefix, i)); err != nil {
					if failed.Add(1) == 1 {
						fmt.Fprintln(os.Stderr, "creates:", err)
					}
					continue
				}
				own = append(own, time.Since(at))
				done.Add(1)
			}
			mu.Lock()
			all = append(all, own...)
			mu.Unlock()
		}()
	}
	wg.Wait()
	took := time.Since(begun).Seconds()
	sort.Slice(all, func(a, b int) bool { return all[a] < all[b] })
	at := func(q float64) float64 {
		if len(all) == 0 {
			return 0
		}
		return float64(all[min(len(all)-1, int(q*float64(len(all))))].Microseconds()) / 1000
	}
	check(json.NewEncoder(os.Stdout).Encode(map[string]any{
		"done": done.Load(), "failed": failed.Load(), "seconds": took, "per_second": float64(done.Load()) / took,
		"p50_ms": at(0.5), "p99_ms": at(0.99),
	}))
}

func etcdCreator(base string, connections int, padding string) creator {
	clients := make([]*clientv3.Client, connections)
	for n := range clients {
		c, err := clientv3.New(clientv3.Config{Endpoints: []string{base}, DialTimeout: 10 * time.Second})
		check(err)
		clients[n] = c
	}
	return func(ctx context.Context, n int, name string) error {
		k := "/registry/configmaps/default/" + name
		// As an API server creates: only where nothing is.
		r, err := clients[n].Txn(ctx).
			If(clientv3.Compare(clientv3.ModRevision(k), "=", 0)).
			Then(clientv3.OpPut(k, string(object(name, padding)))).Commit()
		if err == nil && !r.Succeeded {
			err = fmt.Errorf("%s was there already", k)
		}
		return err
	}
}

func kelsonCreator(base, ca, cert, key string, connections int, padding string) creator {
	pem, err := os.ReadFile(ca)
	check(err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	pair, err := tls.LoadX509KeyPair(cert, key)
	check(err)
	clients := make([]*http.Client, connections)
	for n := range clients {
		// A transport each: that many connections, not one that is shared.
		clients[n] = &http.Client{Transport: &http.Transport{
			TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}},
			MaxConnsPerHost: 1,
		}}
	}
	return func(ctx context.Context, n int, name string) error {
		u := base + "/api/v1/namespaces/default/configmaps"
		q, err := http.NewRequestWithContext(ctx, http.MethodPost, u, bytes.NewReader(object(name, padding)))
		if err != nil {
			return err
		}
		q.Header.Set("Content-Type", "application/json")
		r, err := clients[n].Do(q)
		if err != nil {
			return err
		}
		defer r.Body.Close()
		text, err := io.ReadAll(r.Body)
		if err == nil && r.StatusCode != http.StatusCreated {
			err = fmt.Errorf("%s: %s", r.Status, text)
		}
		return err
	}
}
