"""An MCP server that wants a token, and the authorization server that gives it: both of the official SDK for Python, strict
about all that they are sent. Prints its port. It listens on 127.0.0.1, and on 127.0.0.2 to tell whether somebody was there.
"""

import asyncio
import secrets
import socket
import time

import uvicorn
from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.auth.provider import AccessToken, AuthorizationCode, RefreshToken, construct_redirect_uri
from mcp.server.auth.settings import AuthSettings, ClientRegistrationOptions
from mcp.server.mcpserver import MCPServer
from mcp.shared.auth import OAuthClientInformationFull, OAuthToken
from starlette.responses import JSONResponse, RedirectResponse

counts = {"registered": 0, "exchanged": 0, "refreshed": 0, "called": 0, "elsewhere": 0}
# What a test may change: how long tokens are good, whether renewals are held up, where who wants tokens is sent on to.
settings = {"seconds": 3600, "holds_renewals": False, "token_redirect": None}


class Provider:
    def __init__(self, base):
        self.base = base
        self.clients, self.codes, self.access, self.refresh = {}, {}, {}, {}

    async def get_client(self, client_id):
        return self.clients.get(client_id)

    async def register_client(self, client):
        counts["registered"] += 1
        self.clients[client.client_id] = client

    async def authorize(self, client, params):
        if params.resource != f"{self.base}/mcp":
            raise RuntimeError(f"another resource: {params.resource}")
        code = "canary-code-" + secrets.token_hex(16)
        self.codes[code] = AuthorizationCode(
            code=code, scopes=params.scopes or ["read"], expires_at=time.time() + 600, client_id=client.client_id,
            code_challenge=params.code_challenge, redirect_uri=params.redirect_uri, resource=params.resource,
            redirect_uri_provided_explicitly=params.redirect_uri_provided_explicitly)
        return construct_redirect_uri(str(params.redirect_uri), code=code, state=params.state, iss=self.base)

    async def load_authorization_code(self, client, code):
        return self.codes.get(code)

    async def exchange_authorization_code(self, client, code):
        # Good once.
        del self.codes[code.code]
        counts["exchanged"] += 1
        return self.tokens(client, code.scopes, code.resource)

    async def load_refresh_token(self, client, token):
        return self.refresh.get(token)

    async def exchange_refresh_token(self, client, token, scopes):
        # Good once.
        del self.refresh[token.token]
        while settings["holds_renewals"]:
            await asyncio.sleep(0.05)
        counts["refreshed"] += 1
        return self.tokens(client, scopes, token.resource)

    def tokens(self, client, scopes, resource):
        access, renewal = "canary-access-" + secrets.token_hex(8), "canary-refresh-" + secrets.token_hex(8)
        seconds = settings["seconds"]
        self.access[access] = AccessToken(token=access, client_id=client.client_id, scopes=scopes, resource=resource,
                                          expires_at=int(time.time() + seconds))
        self.refresh[renewal] = RefreshToken(token=renewal, client_id=client.client_id, scopes=scopes, resource=resource)
        return OAuthToken(access_token=access, refresh_token=renewal, expires_in=seconds, scope=" ".join(scopes))

    async def load_access_token(self, token):
        return self.access.get(token)


def make(base):
    provider = Provider(base)
    auth = AuthSettings(
        issuer_url=base, resource_server_url=f"{base}/mcp", required_scopes=["read"], validate_token_resource=True,
        client_registration_options=ClientRegistrationOptions(enabled=True, valid_scopes=["read"], default_scopes=["read"]))
    server = MCPServer("docs", auth_server_provider=provider, auth=auth)

    @server.tool()
    def whoami() -> str:
        """Says who is signed in, and more than it should."""
        counts["called"] += 1
        return f"signed in with {get_access_token().token}"

    @server.tool()
    def forget_access() -> str:
        """Makes the token that this is called with one that was."""
        provider.access.clear()
        return "forgotten"

    @server.custom_route("/control", methods=["POST"])
    async def control(request):
        asked = await request.json()
        if asked.pop("revoke", False):
            provider.access.clear()
            provider.refresh.clear()
        if "client" in asked:
            client = OAuthClientInformationFull.model_validate(asked.pop("client"))
            provider.clients[client.client_id] = client
        settings.update(asked)
        return JSONResponse(counts)

    @server.custom_route("/elsewhere", methods=["GET", "POST"])
    async def elsewhere(request):
        counts["elsewhere"] += 1
        return JSONResponse({"access_token": "canary-elsewhere", "token_type": "Bearer"})

    app = server.streamable_http_app()

    async def redirecting(scope, receive, send):
        if scope["type"] == "http" and scope["path"] == "/token" and settings["token_redirect"]:
            await RedirectResponse(settings["token_redirect"], status_code=307)(scope, receive, send)
        else:
            await app(scope, receive, send)

    return redirecting


def listen(host, port):
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind((host, port))
    return listening


first = listen("127.0.0.1", 0)
port = first.getsockname()[1]
config = uvicorn.Config(make(f"http://127.0.0.1:{port}"), log_level="warning", lifespan="on")
first.listen()
print(port, flush=True)
asyncio.run(uvicorn.Server(config).serve(sockets=[first, listen("127.0.0.2", port)]))
