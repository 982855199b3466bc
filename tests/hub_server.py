"""A hub on this machine: what huggingface_hub asks for when it downloads and uploads, and the faults of a bad line."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "c0ffee" * 6 + "c0de"


@dataclass
class HubServer:
    """Serves `repositories` ("owner/name" -> path -> bytes), each of which has the branch main and one commit.

    Weights (.bin, .safetensors) are large files as on the hub: known by their sha256 and reached by a redirect.
    A body that `cut` or `corrupt` names is cut off half way or has its last byte changed, once each mention.
    An upload makes a commit of its own if `token` is given; the hub forbids it with any other.
    """

    repositories: dict[str, Mapping[str, bytes]]
    commit: str = COMMIT
    cut: list[str] = field(default_factory=list)
    corrupt: list[str] = field(default_factory=list)
    token: str = ""
    private: set[str] = field(default_factory=set)
    uploaded: dict[str, bytes] = field(default_factory=dict)
    """sha256 -> large files that were uploaded."""
    requests: list[str] = field(default_factory=list)
    """"METHOD path", and the range if one was requested, in the order they came."""

    def __enter__(self) -> HubServer:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, self))
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Nobody listens there any more; a second call does nothing."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()

    def bodies(self, file: str) -> list[str]:
        """Ranges of the requests for a file's bytes: "" where the whole was requested."""
        found = []
        for request in self.requests:
            method, path, *ranges = request.split(" ")
            if method == "GET" and path.endswith(f"/{file}") and not path.startswith("/api/"):
                found += ranges or [""]
        return found


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, hub: HubServer, *args: object) -> None:
        self.hub = hub
        super().__init__(*args)  # type: ignore[arg-type]

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        byte_range = self.headers.get("Range")
        self.hub.requests.append(f"{self.command} {path}" + (f" {byte_range}" if byte_range else ""))
        found = re.fullmatch(
            r"/(?:api/models/(?P<listed>[^/]+/[^/]+)/(?:revision|tree)|(?P<repo>[^/]+/[^/]+)/(?:resolve|lfs))"
            r"/(?P<revision>[^/]+)(?:/(?P<file>.+))?",
            path,
        )
        name = found and (found["listed"] or found["repo"])
        if not found or name not in self.hub.repositories:
            return self._fail("RepoNotFound")
        files = self.hub.repositories[name]
        if found["revision"] not in ("main", self.hub.commit):
            return self._fail("RevisionNotFound")
        if "/tree/" in path and found["listed"]:
            return self._send(200, json.dumps([_entry(*item) for item in files.items()]).encode())
        if found["listed"]:
            siblings = [{"rfilename": file} for file in files]
            return self._send(200, json.dumps({"id": name, "sha": self.hub.commit, "siblings": siblings}).encode())
        if found["file"] not in files:
            return self._fail("EntryNotFound")
        return self._give(name, found["file"], files[found["file"]], redirected="/lfs/" in path)

    def do_POST(self) -> None:
        path = unquote(urlsplit(self.path).path)
        body = self._body()
        self.hub.requests.append(f"POST {path}")
        if path == "/api/validate-yaml":
            return self._send(200, json.dumps({"errors": [], "warnings": []}).encode())
        if self.headers.get("Authorization") != f"Bearer {self.hub.token}":
            return self._send(403, b"", {"X-Error-Message": "Forbidden: you have no write access", "X-Request-Id": "1"})
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        found = re.fullmatch(
            r"/(?:api/models/)?(?P<name>[^/]+/[^/]+?)(?:\.git/info/lfs/objects/batch|/(?P<action>\w+)/(?P<branch>\w+))",
            path,
        )
        if not found or found["name"] not in self.hub.repositories or found["branch"] not in (None, "main"):
            return self._fail("RevisionNotFound" if found else "RepoNotFound")
        if found["action"] == "commit":
            return self._commit(found["name"], [json.loads(line) for line in body.splitlines()])
        asked = json.loads(body)
        if found["action"] == "preupload":
            files = [
                {
                    "path": item["path"],
                    "uploadMode": "lfs" if _is_large(item["path"]) else "regular",
                    "shouldIgnore": False,
                }
                for item in asked["files"]
            ]
            return self._send(200, json.dumps({"files": files}).encode())
        objects = [
            item | {"actions": {"upload": {"href": f"{self.hub.url}/upload/{item['oid']}"}}}
            for item in asked["objects"]
        ]
        return self._send(200, json.dumps({"transfer": "basic", "objects": objects}).encode())

    def do_PUT(self) -> None:
        body = self._body()
        self.hub.uploaded[hashlib.sha256(body).hexdigest()] = body
        self._send(200, b"")

    def _body(self) -> bytes:
        if "Content-Length" in self.headers:
            return self.rfile.read(int(self.headers["Content-Length"]))
        parts = []
        while size := int(self.rfile.readline(), 16):  # chunks
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _create(self, asked: dict[str, Any]) -> None:
        name = f"{asked.get('organization') or 'me'}/{asked['name']}"
        address = json.dumps({"url": f"{self.hub.url}/{name}"}).encode()
        if name in self.hub.repositories:
            return self._send(409, address, {"X-Request-Id": "1"})
        self.hub.repositories[name] = {}
        if asked.get("private") or asked.get("visibility") == "private":
            self.hub.private.add(name)
        return self._send(200, address)

    def _commit(self, name: str, lines: list[dict[str, Any]]) -> None:
        files = dict(self.hub.repositories[name])
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.hub.uploaded[value["oid"]]
        self.hub.repositories[name] = files
        address = f"{self.hub.url}/{name}/commit/{self.hub.commit}"
        answer = {"success": True, "commitUrl": address, "commitOid": self.hub.commit}
        self._send(200, json.dumps(answer).encode())

    def _give(self, name: str, file: str, body: bytes, redirected: bool) -> None:
        etag = _oid(file, body)
        headers = {"X-Repo-Commit": self.hub.commit, "ETag": f'"{etag}"', "Accept-Ranges": "bytes"}
        if _is_large(file):
            headers |= {"X-Linked-Etag": f'"{etag}"', "X-Linked-Size": str(len(body))}
            if not redirected:
                location = f"{self.hub.url}/{name}/lfs/{self.hub.commit}/{file}"
                return self._send(302, b"", headers | {"Location": location})
        start = 0
        if match := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "")):
            start = int(match[1])
            headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
        if self.command == "GET" and file in self.hub.corrupt:
            self.hub.corrupt.remove(file)
            body = body[:-1] + bytes([body[-1] ^ 1])
        cut = self.command == "GET" and file in self.hub.cut
        if cut:
            self.hub.cut.remove(file)
        return self._send(206 if match else 200, body[start:], headers, cut)

    def _fail(self, code: str) -> None:
        status = 401 if code == "RepoNotFound" else 404  # the hub does not say which repositories are private
        self._send(status, b"", {"X-Error-Code": code, "X-Error-Message": code, "X-Request-Id": "Root=1-abc"})

    def _send(self, status: int, body: bytes, headers: Mapping[str, str] | None = None, cut: bool = False) -> None:
        self.send_response(status)
        for key, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[: len(body) // 2] if cut else body)
        self.close_connection = self.close_connection or cut


def _is_large(file: str) -> bool:
    return file.endswith((".bin", ".safetensors"))


def _oid(file: str, body: bytes) -> str:
    """What the hub calls a file's bytes: sha256 of a large one, git's name of a small one."""
    if _is_large(file):
        return hashlib.sha256(body).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(body) + body).hexdigest()


def _entry(file: str, body: bytes) -> dict[str, object]:
    entry: dict[str, object] = {"type": "file", "path": file, "size": len(body), "oid": _oid(file, body)}
    if _is_large(file):
        entry["lfs"] = {"oid": _oid(file, body), "size": len(body), "pointerSize": 130}
    return entry
