"""Uses the service at the URL given as the people that `audit-api demo` tells of on standard input: lists, gets, exports.

Ends with 0 when each of two tenants is shown its own events, and nothing of the other's."""
import json, re, sys, time, urllib.error, urllib.request

URL = sys.argv[1]
TOLD = sys.stdin.read()


def ask(method, path, token=None, body=None):
    """Status and text of the answer."""
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(URL + path, data, headers, method=method), timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def expect(status, *asked, **more):
    got, text = ask(*asked, **more)
    if got != status:
        sys.exit(f"error: {asked[:2]} was answered {got}, not {status}: {text[:300]}")
    return text


password = re.search(r"^password of all: (.+)$", TOLD, re.M)[1]
# Nobody but an owner of one is a guest in the other.
emails = re.findall(r"^admin .* (\S+)$", TOLD, re.M)
assert len(emails) == 2, "the demo has two tenants"
tenants = []
for email in emails:
    said = {"email": email, "password": password}
    token = json.loads(expect(200, "POST", "/v1/sign-in", body=said))["access_token"]
    page = json.loads(expect(200, "GET", "/v1/events?limit=200&count=true", token))
    assert page["total"] > 0 and page["items"], "a tenant that is shown nothing proves nothing"
    tenants.append((email.split("@")[1], token, page))
for (own, token, page), (other, _, theirs) in (tenants, tenants[::-1]):
    expect(200, "GET", f"/v1/events/{page['items'][0]['id']}", token)
    expect(404, "GET", f"/v1/events/{theirs['items'][0]['id']}", token)
    # A job: by way of the queue, the worker and the shared objects.
    export = json.loads(expect(201, "POST", "/v1/exports", token, body={"format": "ndjson"}))["id"]
    for _ in range(120):
        state = json.loads(expect(200, "GET", f"/v1/exports/{export}", token))["state"]
        if state not in ("queued", "running"):
            break
        time.sleep(0.5)
    assert state == "done", f"the export is {state}"
    lines = expect(200, "GET", f"/v1/exports/{export}/download", token).splitlines()
    assert len(lines) == page["total"], f"{len(lines)} lines of {page['total']} events"
    for shown in (json.dumps(page), "\n".join(lines)):
        assert own in shown and other not in shown, f"{own} is shown {other}"
    expect(404, "GET", f"/v1/exports/{export}", next(t for o, t, _ in tenants if o == other))
    print(f"{own}: {page['total']} events listed and exported, none of {other}")
