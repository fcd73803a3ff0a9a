#!/bin/sh
# Push or sell listings over HTTP with curl: push.sh push ACCOUNT REF... | push.sh push ACCOUNT LISTINGS.json | push.sh sell ACCOUNT REF...
#
# $OKASIE_URL is the address of `okasie web`, $OKASIE_WEB_TOKEN a token of [web.tokens] whose role is push or operate.
# LISTINGS.json holds a list of listings in the marketplace's write shape. It prints the outcome of each listing.
# The exit status is 0 when the request was accepted and is done.
set -eu
url=${OKASIE_URL:-http://127.0.0.1:8600}/api/v1
usage() { echo "usage: push.sh push ACCOUNT LISTINGS.json|REF...   or   push.sh sell ACCOUNT REF..." >&2; exit 2; }
[ $# -ge 3 ] || usage
kind=$1 account=$2
shift 2

call() {
    # A header in a file is not visible in the list of processes.
    printf 'Authorization: Bearer %s\n' "$OKASIE_WEB_TOKEN" |
        curl --silent --show-error --fail-with-body --max-time 75 --header @- "$@"
}

case $1 in
*.json) body="{\"listings\": $(cat "$1"), \"version\": $(date +%s)000}" ;;
*) body=$(printf '"%s", ' "$@") body="{\"references\": [${body%, }]}" ;;
esac
# The same key again is the same request: curl may retry after an answer that was lost.
key=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
accepted=$(call --retry 3 --header "Idempotency-Key: $key" --json "$body" "$url/accounts/$account/$kind")
request=$(printf %s "$accepted" | sed -n 's/.*"request": *"\([^"]*\)".*/\1/p')
call "$url/requests/$request?wait=60"
echo
