// A client in Go that plays a scripted MCP session over net/http and crypto/tls, and counts every JSON-RPC
// message it sent or received. The protocol is spoken by hand: no SDK, only the standard library.
//
// usage: client '{"url": "https://...", "ca": "cert.pem", ...}'
//
//	calls        tools/call requests of each session (default 5)
//	connections  sessions at the same time, each on a connection of its own (default 1)
//	http2        offer HTTP/2
//	max          "1.2": no TLS 1.3
//	pause_ms     wait before the first connection
//	hold_until   before its first call each session says `holds` and waits for this file, with its connection open
//
// Prints what client.mjs prints at its end.
package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"time"
)

type options struct {
	URL         string `json:"url"`
	CA          string `json:"ca"`
	Calls       int    `json:"calls"`
	Connections int    `json:"connections"`
	HTTP2       bool   `json:"http2"`
	Max         string `json:"max"`
	Pause       int    `json:"pause_ms"`
	Hold        string `json:"hold_until"`
}

type totals struct {
	sync.Mutex
	Event         string         `json:"event"`
	Requests      int            `json:"requests"`
	Responses     int            `json:"responses"`
	Notifications int            `json:"notifications"`
	Errors        int            `json:"errors"`
	Methods       map[string]int `json:"methods"`
}

type session struct {
	client  *http.Client
	url     string
	id      string
	counted *totals
}

func (s *session) post(message map[string]any) error {
	message["jsonrpc"] = "2.0"
	body, err := json.Marshal(message)
	if err != nil {
		return err
	}
	request, err := http.NewRequest("POST", s.url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("content-type", "application/json")
	request.Header.Set("accept", "application/json, text/event-stream")
	if s.id != "" {
		request.Header.Set("mcp-session-id", s.id)
		request.Header.Set("mcp-protocol-version", "2025-06-18")
	}
	response, err := s.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode/100 != 2 {
		return fmt.Errorf("%s: %s", response.Status, answer)
	}
	if id := response.Header.Get("mcp-session-id"); id != "" {
		s.id = id
	}
	s.counted.Lock()
	defer s.counted.Unlock()
	s.counted.Methods[message["method"].(string)]++
	if message["id"] == nil {
		s.counted.Notifications++
		return nil
	}
	s.counted.Requests++
	var parsed struct {
		Result json.RawMessage `json:"result"`
		Error  json.RawMessage `json:"error"`
	}
	if err := json.Unmarshal(answer, &parsed); err != nil {
		return fmt.Errorf("%v: %s", err, answer)
	}
	s.counted.Responses++
	if parsed.Error != nil {
		s.counted.Errors++
	}
	return nil
}

func (s *session) run(calls int, hold string) error {
	script := []map[string]any{
		{"id": 1, "method": "initialize", "params": map[string]any{
			"protocolVersion": "2025-06-18", "capabilities": map[string]any{},
			"clientInfo": map[string]any{"name": "go", "version": "1"}}},
		{"method": "notifications/initialized"},
		{"id": 2, "method": "tools/list"},
	}
	for call := 0; call < calls; call++ {
		script = append(script, map[string]any{"id": call + 3, "method": "tools/call", "params": map[string]any{
			"name": "get_quote", "arguments": map[string]any{"symbol": "ACME"}}})
	}
	for step, message := range script {
		if step == 3 && hold != "" {
			fmt.Println(`{"event":"holds"}`)
			for _, err := os.Stat(hold); err != nil; _, err = os.Stat(hold) {
				time.Sleep(50 * time.Millisecond)
			}
		}
		if err := s.post(message); err != nil {
			return err
		}
	}
	s.client.CloseIdleConnections()
	return nil
}

func main() {
	given := options{Calls: 5, Connections: 1}
	if err := json.Unmarshal([]byte(os.Args[1]), &given); err != nil {
		panic(err)
	}
	certificate, err := os.ReadFile(given.CA)
	if err != nil {
		panic(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(certificate)
	time.Sleep(time.Duration(given.Pause) * time.Millisecond)
	counted := &totals{Event: "done", Methods: map[string]int{}}
	var all sync.WaitGroup
	for n := 0; n < given.Connections; n++ {
		config := &tls.Config{RootCAs: roots}
		if given.Max == "1.2" {
			config.MaxVersion = tls.VersionTLS12
		}
		transport := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: given.HTTP2}
		one := &session{client: &http.Client{Transport: transport}, url: given.URL, counted: counted}
		all.Add(1)
		go func() {
			defer all.Done()
			if err := one.run(given.Calls, given.Hold); err != nil {
				fmt.Printf("{\"event\":\"error\",\"message\":%q}\n", err.Error())
				os.Exit(1)
			}
		}()
	}
	all.Wait()
	if err := json.NewEncoder(os.Stdout).Encode(counted); err != nil {
		panic(err)
	}
}
