"""POSTs JSON through libcurl with GnuTLS, as Debian packages it beside the one with OpenSSL.

usage: python3 curl_gnutls.py URL CA_FILE BODY
"""

import ctypes
import sys

URL, WRITEDATA, POSTFIELDS, HTTPHEADER, CAINFO, FAILONERROR = 10002, 10001, 10015, 10023, 10065, 45

curl = ctypes.CDLL("libcurl-gnutls.so.4")
curl.curl_easy_init.restype = ctypes.c_void_p
curl.curl_slist_append.restype = ctypes.c_void_p
curl.curl_slist_append.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
curl.curl_easy_strerror.restype = ctypes.c_char_p
curl.curl_easy_perform.argtypes = curl.curl_easy_cleanup.argtypes = [ctypes.c_void_p]


def set_option(handle: int, option: int, value: object) -> None:
    curl.curl_easy_setopt(ctypes.c_void_p(handle), ctypes.c_int(option), value)


handle = curl.curl_easy_init()
headers = None
for header in (b"content-type: application/json", b"accept: application/json, text/event-stream"):
    headers = curl.curl_slist_append(headers, header)
set_option(handle, URL, ctypes.c_char_p(sys.argv[1].encode()))
set_option(handle, CAINFO, ctypes.c_char_p(sys.argv[2].encode()))
set_option(handle, POSTFIELDS, ctypes.c_char_p(sys.argv[3].encode()))
set_option(handle, HTTPHEADER, ctypes.c_void_p(headers))
set_option(handle, FAILONERROR, ctypes.c_long(1))
code = curl.curl_easy_perform(handle)
curl.curl_easy_cleanup(handle)
if code:
    sys.exit(curl.curl_easy_strerror(code).decode())
