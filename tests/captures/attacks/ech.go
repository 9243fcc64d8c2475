// A server and a client that hide the name in an encrypted ClientHello (RFC 9849), by Go's crypto/tls.
//
//	ech serve 203.0.113.10:443 leaf.pem key.pem ech.config    writes its configuration list there, then listens
//	ech get   203.0.113.10:443 mcp.market.example ech.config  one request with it
package main

import (
	"crypto/ecdh"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"net/http"
	"os"
)

const public = "cover.provider.example"

// configuration of draft 13 and RFC 9849: X25519, HKDF-SHA256, AES-128-GCM.
func configuration(key []byte) []byte {
	contents := []byte{7, 0x00, 0x20}
	contents = append(binary.BigEndian.AppendUint16(contents, uint16(len(key))), key...)
	contents = append(contents, 0, 4, 0, 1, 0, 1, 32, byte(len(public)))
	contents = append(append(contents, public...), 0, 0)
	return append(binary.BigEndian.AppendUint16([]byte{0xfe, 0x0d}, uint16(len(contents))), contents...)
}

func serve(address, certificate, key, file string) error {
	private, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	config := configuration(private.PublicKey().Bytes())
	list := append(binary.BigEndian.AppendUint16(nil, uint16(len(config))), config...)
	if err := os.WriteFile(file, list, 0o600); err != nil {
		return err
	}
	keys := []tls.EncryptedClientHelloKey{{Config: config, PrivateKey: private.Bytes(), SendAsRetry: true}}
	server := http.Server{Addr: address, TLSConfig: &tls.Config{EncryptedClientHelloKeys: keys}}
	return server.ListenAndServeTLS(certificate, key)
}

func get(address, name, file string) error {
	list, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	connection, err := tls.Dial("tcp", address, &tls.Config{
		ServerName: name, InsecureSkipVerify: true, MinVersion: tls.VersionTLS13, EncryptedClientHelloConfigList: list,
		EncryptedClientHelloRejectionVerify: func(tls.ConnectionState) error { return nil },
	})
	if err != nil {
		return err
	}
	defer connection.Close()
	fmt.Fprintf(connection, "GET / HTTP/1.0\r\n\r\n")
	_, err = connection.Read(make([]byte, 512))
	return err
}

func main() {
	err := fmt.Errorf("serve or get")
	switch arguments := os.Args[2:]; os.Args[1] {
	case "serve":
		err = serve(arguments[0], arguments[1], arguments[2], arguments[3])
	case "get":
		err = get(arguments[0], arguments[1], arguments[2])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
