#!/bin/sh
# Makes the certificates of this folder anew, with OpenSSL 3. Keys are thrown away: nobody has to sign with them.
set -eu
out=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

key() { openssl ecparam -name prime256v1 -genkey -noout -out "$1.key"; }

# ca NAME SUBJECT [CONFIGURATION]
ca() {
    key "$1"
    openssl req -new -x509 ${3:+-config "$3"} -key "$1.key" -subj "$2" -days 7300 -out "$1.pem"
    cp "$1.pem" "$out/$1.pem"
}

# leaf NAME CA SUBJECT HOST FROM TO [EXTENSION]
leaf() {
    [ -f "$1.key" ] || key "$1"
    : > index.txt
    echo 01 > serial
    {
        echo '[ca]'; echo 'default_ca = own'
        echo '[own]'; echo 'database = index.txt'; echo 'serial = serial'; echo 'new_certs_dir = .'
        echo 'default_md = sha256'; echo 'policy = any'; echo 'unique_subject = no'
        echo '[any]'; echo 'commonName = supplied'; echo 'organizationName = optional'
        echo '[more]'; echo "subjectAltName = DNS:$4"; [ $# -lt 7 ] || echo "$7"
    } > ca.cnf
    openssl req -new -key "$1.key" -subj "$3" -out "$1.csr"
    openssl ca -batch -notext -config ca.cnf -extensions more $([ "$1" = "$2" ] || echo -cert "$2.pem") -keyfile "$2.key" \
        $([ "$1" != "$2" ] || echo -selfsign) -startdate "$5" -enddate "$6" -in "$1.csr" -out "$1.pem" 2>/dev/null
    cp "$1.pem" "$out/$1.pem"
}

host=mcp.market.example
from=20261001000000Z
to=20271001000000Z
ca example-ca '/O=Example Trust/CN=Example CA'
ca rogue-ca '/O=Rogue Trust/CN=Rogue CA'
# The subject of a root that browsers trust, in its encoding; its key is not that root's.
printf '[req]\nstring_mask = nombstr\ndistinguished_name = dn\n[dn]\n' > plain.cnf
ca public-ca '/C=US/O=Internet Security Research Group/CN=ISRG Root X1' plain.cnf
leaf market example-ca "/CN=$host" $host $from $to
cp market.key market-renewed.key
leaf market-renewed example-ca "/CN=$host" $host 20261115000000Z 20271115000000Z
leaf market-next example-ca "/CN=$host" $host $from $to
leaf rogue rogue-ca "/CN=$host" $host $from $to
leaf expired example-ca "/CN=$host" $host 20250101000000Z 20260101000000Z
leaf future example-ca "/CN=$host" $host 20270101000000Z 20280101000000Z
leaf other-name example-ca '/CN=other.example' other.example $from $to
leaf public public-ca "/CN=$host" $host $from $to
# One signed certificate timestamp (RFC 6962 section 3.3): version, log, time, no extensions, ECDSA with SHA-256
# and a signature of no worth.
zeros() { printf "%0$(($1 * 2))d" 0; }
sct="00$(zeros 32)$(zeros 8)00000403004730450220$(zeros 32)022100$(zeros 32)"
list="0076$sct"
leaf public-logged public-ca "/CN=$host" $host $from $to "1.3.6.1.4.1.11129.2.4.2 = DER:047a0078$list"
leaf agent example-ca '/O=Example/CN=agent-1' agent-1.example $from $to
leaf self-signed self-signed "/CN=$host" $host $from $to
# What transcripts pin.
for name in market market-next; do
    echo "$name $(openssl x509 -in "$out/$name.pem" -noout -pubkey | openssl pkey -pubin -outform DER | openssl dgst -sha256 -binary | base64)"
done
