// A store that is far away: a proxy in front of one on this machine that waits before each request and limits each
// connection.
//
// usage: far LISTEN UPSTREAM DELAY_MS MEGABYTES_PER_SECOND
package main

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"strconv"
	"sync"
	"time"
)

type limitedConn struct {
	net.Conn
	rate float64
	free time.Time
}

const piece = 64 << 10

func (c *limitedConn) Write(data []byte) (int, error) {
	written := 0
	for written < len(data) {
		end := min(written+piece, len(data))
		now := time.Now()
		if c.free.Before(now) {
			c.free = now
		}
		c.free = c.free.Add(time.Duration(float64(end-written) / c.rate * float64(time.Second)))
		// Sleeps are coarse: a debt of a few milliseconds is paid at once.
		if debt := c.free.Sub(now); debt > 5*time.Millisecond {
			time.Sleep(debt)
		}
		count, err := c.Conn.Write(data[written:end])
		written += count
		if err != nil {
			return written, err
		}
	}
	return written, nil
}

type limitedListener struct {
	net.Listener
	rate float64
}

func (l limitedListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &limitedConn{Conn: conn, rate: l.rate}, nil
}

type buffers struct{ pool sync.Pool }

func (b *buffers) Get() []byte  { return b.pool.Get().([]byte) }
func (b *buffers) Put(x []byte) { b.pool.Put(x) }

func main() {
	upstream, err := url.Parse(os.Args[2])
	check(err)
	delay, err := strconv.Atoi(os.Args[3])
	check(err)
	megabytes, err := strconv.ParseFloat(os.Args[4], 64)
	check(err)
	proxy := &httputil.ReverseProxy{
		// The Host header stays as it came: requests are signed with it.
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = upstream.Scheme, upstream.Host, r.In.Host
		},
		Transport:  &http.Transport{MaxIdleConnsPerHost: 512, DisableCompression: true},
		BufferPool: &buffers{sync.Pool{New: func() any { return make([]byte, 256<<10) }}},
	}
	listener, err := net.Listen("tcp", os.Args[1])
	check(err)
	fmt.Println(listener.Addr())
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(time.Duration(delay) * time.Millisecond)
		proxy.ServeHTTP(w, r)
	})
	check(http.Serve(limitedListener{listener, megabytes * 1e6}, handler))
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
