"""IPC$: what rpcclient, smbclient -L and impacket's RPC stack get from the named pipes."""

import os
import re
import subprocess

from impacket.dcerpc.v5 import lsad, lsat, samr, srvs, transport
from impacket.dcerpc.v5.dtypes import MAXIMUM_ALLOWED
from impacket.dcerpc.v5.rpcrt import DCERPCException
from impacket.ldap.ldaptypes import SR_SECURITY_DESCRIPTOR
from impacket.smb3structs import (
    DACL_SECURITY_INFORMATION, GROUP_SECURITY_INFORMATION, OWNER_SECURITY_INFORMATION, SMB2_0_INFO_SECURITY, SMB2_SEC_INFO_00)
from impacket.smbconnection import SMBConnection

from impacket_suite import status_of
from tap import equal, expect, main, test

NOT_FOUND = 0xC0000034
DENIED = 0xC0000022
SOME_NOT_MAPPED = 0x00000107


def run(words, limit=60):
    """What a tool prints, standard error included, and its exit code."""
    result = subprocess.run(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=limit,
        env=dict(os.environ, LC_ALL="C.UTF-8"), check=False)
    return result.stdout.decode("utf-8", "replace"), result.returncode


def rpcclient(options, command):
    output, code = run(
        ["rpcclient", options.host, "-p", str(options.port), "-U", f"{options.user}%{options.password}", "-c", command])
    return output, code


def answers(command, *patterns):
    """A test: `command` succeeds, and its output has all of `patterns`."""

    @test()
    def check(options, _work):
        text = command.format(user=options.user, share=options.share)
        output, code = rpcclient(options, text)
        equal(code, 0, f"exit code of {text}: {output.strip()[-300:]}")
        for pattern in patterns:
            wanted = pattern.format(user=options.user, share=options.share)
            expect(re.search(wanted, output, re.M), f"{wanted!r} is not in: {output.strip()[-500:]}")

    check.__name__ = "rpcclient_" + command.split()[0]


answers("srvinfo", r"platform_id\s*:\s*500", r"Sv NT")
answers("netshareenumall", r"^netname: {share}$", r"^netname: IPC\$$")
answers("netsharegetinfo {share}", r"^netname: {share}$", r"type:\s*0x0")
answers("netremotetod")
answers("wkssvc_wkstagetinfo")
answers("lsaquery", r"^Domain Name: \w+")
answers("getusername", r"^Account Name: {user}, Authority Name: \w+")
answers("lookupnames {user} Users nobody-here", r"^{user} S-1-5-21-[-0-9]+-1\d\d\d \(User: 1\)", r"^Users S-1-5-32-545 \(Local Group: 4\)",
        r"^nobody-here S-0-0 \(UNKNOWN: 8\)")
answers("lookupsids S-1-5-32-544 S-1-1-0 S-1-5-21-1-2-3-4", r"BUILTIN\\Administrators \(4\)", r"^S-1-1-0 \\Everyone \(5\)",
        r"S-1-5-21-1-2-3-4 \*unknown\*")
answers("enumdomains", r"^name:\[BUILTIN\]")
answers("enumdomusers", r"^user:\[{user}\] rid:\[0x3[0-9a-f]{{2}}\]")
answers("enumalsgroups builtin", r"^group:\[Administrators\] rid:\[0x220\]")
answers("querydominfo", r"^Total Users:\s*[1-9]")
answers("enumdomgroups", r"^group:\[None\] rid:\[0x201\]")


@test()
def rpcclient_names_and_identifiers_agree(options, _work):
    """A name's identifier is that name's; the account database and the look-up say the same."""
    output, _ = rpcclient(options, f"lookupnames {options.user}")
    sid = re.search(r"S-1-5-21-\d+-\d+-\d+-(\d+)", output)
    expect(sid, output)
    output, _ = rpcclient(options, f"lookupsids {sid.group(0)}")
    expect(re.search(rf"{sid.group(0)} \w+\\{options.user} \(1\)", output), output)
    output, _ = rpcclient(options, f"queryuser {sid.group(1)}")
    expect(re.search(rf"User Name\s*:\s*{options.user}\b", output), output)
    output, code = rpcclient(options, "queryuser 0x7fff")
    expect(code != 0 and "NO_SUCH_USER" in output, output)


@test()
def smbclient_lists_shares(options, _work):
    for account in [["-U", f"{options.user}%{options.password}"], ["-N"]]:
        output, code = run(["smbclient", "-L", f"//{options.host}", "-p", str(options.port), "-g"] + account)
        equal(code, 0, output)
        expect(f"Disk|{options.share}|" in output and "IPC|IPC$|" in output, output)


def connect(options, anonymous=False):
    connection = SMBConnection(options.host, options.host, sess_port=options.port, timeout=20)
    connection.login("" if anonymous else options.user, "" if anonymous else options.password)
    return connection


def bound(connection, pipe, interface, fragment=None):
    """A bound RPC connection by `pipe`."""
    made = transport.SMBTransport(connection.getRemoteHost(), filename=pipe, smb_connection=connection)
    rpc = made.get_dce_rpc()
    rpc.connect()
    rpc.bind(interface)
    if fragment:
        rpc.set_max_fragment_size(fragment)
    return rpc


def error_of(call, *arguments, **named):
    """The error code that an RPC call ends with."""
    try:
        call(*arguments, **named)
    except DCERPCException as error:
        return str(error).strip() if error.get_error_code() is None else error.get_error_code()
    return 0


@test()
def impacket_looks_a_thousand_identifiers_up(options, _work):
    """lookupsid.py's way: requests and answers both come in fragments."""
    connection = connect(options)
    rpc = bound(connection, r"\lsarpc", lsat.MSRPC_UUID_LSAT, fragment=1000)
    policy = lsad.hLsarOpenPolicy2(rpc, MAXIMUM_ALLOWED | lsat.POLICY_LOOKUP_NAMES)["PolicyHandle"]
    domain = lsad.hLsarQueryInformationPolicy2(rpc, policy, lsad.POLICY_INFORMATION_CLASS.PolicyAccountDomainInformation)
    sid = domain["PolicyInformation"]["PolicyAccountDomainInfo"]["DomainSid"].formatCanonical()
    wanted = [f"{sid}-{number}" for number in range(500, 1500)]
    answer = None
    try:
        lsat.hLsarLookupSids(rpc, policy, wanted, lsat.LSAP_LOOKUP_LEVEL.LsapLookupWksta)
    except DCERPCException as error:
        equal(error.get_error_code(), SOME_NOT_MAPPED, "status")
        answer = error.get_packet()
    expect(answer is not None, "all thousand are said to be known")
    names = answer["TranslatedNames"]["Names"]
    equal(len(names), 1000, "names")
    users = {item["Name"]: 500 + at for at, item in enumerate(names) if item["Use"] == 1}
    expect(options.user in users, f"{options.user} is not among {users}")
    back = lsat.hLsarLookupNames(rpc, policy, [options.user, "BUILTIN\\Users"])
    equal([item["RelativeId"] for item in back["TranslatedSids"]["Sids"]], [users[options.user], 545], "identifiers")
    equal(lsad.hLsarClose(rpc, policy)["ErrorCode"], 0, "close")
    equal(error_of(lsad.hLsarClose, rpc, policy), "nca_s_fault_context_mismatch", "a handle that is closed")
    connection.close()


@test()
def impacket_resolves_a_descriptor(options, _work):
    """Everybody in a file's descriptor is somebody that the look-up knows."""
    connection = connect(options)
    tree = connection.connectTree(options.share)
    file = connection.createFile(tree, "owned.txt")
    wanted = OWNER_SECURITY_INFORMATION | GROUP_SECURITY_INFORMATION | DACL_SECURITY_INFORMATION
    raw = connection.getSMBServer().queryInfo(
        tree, file, infoType=SMB2_0_INFO_SECURITY, fileInfoClass=SMB2_SEC_INFO_00, additionalInformation=wanted)
    connection.closeFile(tree, file)
    connection.deleteFile(options.share, "owned.txt")
    descriptor = SR_SECURITY_DESCRIPTOR(data=raw)
    sids = [descriptor["OwnerSid"], descriptor["GroupSid"]] + [entry["Ace"]["Sid"] for entry in descriptor["Dacl"]["Data"]]
    rpc = bound(connection, r"\lsarpc", lsat.MSRPC_UUID_LSAT)
    policy = lsad.hLsarOpenPolicy2(rpc, MAXIMUM_ALLOWED)["PolicyHandle"]
    answer = lsat.hLsarLookupSids2(rpc, policy, [sid.formatCanonical() for sid in sids], lsat.LSAP_LOOKUP_LEVEL.LsapLookupWksta)
    names = [item["Name"] for item in answer["TranslatedNames"]["Names"]]
    equal(names, ["Administrators", "Users", "Everyone"], "names")
    connection.close()


@test()
def impacket_dumps_accounts(options, _work):
    """samrdump.py's way."""
    connection = connect(options)
    rpc = bound(connection, r"\samr", samr.MSRPC_UUID_SAMR)
    server = samr.hSamrConnect(rpc)["ServerHandle"]
    domains = samr.hSamrEnumerateDomainsInSamServer(rpc, server)["Buffer"]["Buffer"]
    sid = samr.hSamrLookupDomainInSamServer(rpc, server, domains[0]["Name"])["DomainId"]
    domain = samr.hSamrOpenDomain(rpc, serverHandle=server, domainId=sid)["DomainHandle"]
    users = samr.hSamrEnumerateUsersInDomain(rpc, domain)["Buffer"]["Buffer"]
    found = {user["Name"]: user["RelativeId"] for user in users}
    expect(options.user in found, found)
    user = samr.hSamrOpenUser(rpc, domain, samr.MAXIMUM_ALLOWED, found[options.user])["UserHandle"]
    information = samr.hSamrQueryInformationUser2(rpc, user, samr.USER_INFORMATION_CLASS.UserAllInformation)
    everything = information["Buffer"]["All"]
    equal((everything["UserName"], everything["UserId"]), (options.user, found[options.user]), "account")
    equal(everything["NtOwfPassword"]["Length"], 0, "bytes of the password's hash")
    equal(error_of(samr.hSamrOpenUser, rpc, domain, samr.MAXIMUM_ALLOWED, 4), 0xC0000064, "STATUS_NO_SUCH_USER")
    equal(error_of(samr.hSamrEnumerateUsersInDomain, rpc, server), "nca_s_fault_context_mismatch", "a server's handle as a domain's")
    samr.hSamrCloseHandle(rpc, domain)
    connection.close()


@test()
def impacket_faults(options, _work):
    connection = connect(options)
    rpc = bound(connection, r"\srvsvc", srvs.MSRPC_UUID_SRVS)
    rpc.call(200, b"")
    try:
        rpc.recv()
        code = 0
    except DCERPCException as error:
        code = str(error)
    expect("nca_s_op_rng_error" in code, code)
    # The pipe lives on.
    expect(srvs.hNetrServerGetInfo(rpc, 101)["ErrorCode"] == 0, "srvinfo after a fault")
    # Not this pipe's interface.
    try:
        bound(connection, r"\srvsvc", lsat.MSRPC_UUID_LSAT)
        code = "bound"
    except DCERPCException as error:
        code = str(error)
    expect("abstract_syntax_not_supported" in code, code)
    connection.close()


@test()
def impacket_unknown_and_guarded_pipes(options, _work):
    """Who has not logged on may list shares, but not accounts."""
    connection = connect(options)
    tree = connection.connectTree("IPC$")
    for name in ["nothing", "", "srvsvc2", "..\\srvsvc", "spoolss"]:
        expect(status_of(connection.openFile, tree, name) in (NOT_FOUND, 0xC0000033, 0xC000000D), name)
    equal(status_of(connection.openFile, tree, "nothing"), NOT_FOUND, "STATUS_OBJECT_NAME_NOT_FOUND")
    for _ in range(16):
        connection.openFile(tree, "srvsvc")
    equal(status_of(connection.openFile, tree, "srvsvc"), 0xC000009A, "STATUS_INSUFFICIENT_RESOURCES for the seventeenth pipe")
    connection.close()
    nobody = connect(options, anonymous=True)
    tree = nobody.connectTree("IPC$")
    for name in ["lsarpc", "samr"]:
        equal(status_of(nobody.openFile, tree, name), DENIED, f"{name} for nobody")
    rpc = bound(nobody, r"\srvsvc", srvs.MSRPC_UUID_SRVS)
    shares = srvs.hNetrShareEnum(rpc, 1)["InfoStruct"]["ShareInfo"]["Level1"]["Buffer"]
    expect(options.share in [share["shi1_netname"][:-1] for share in shares], "the share is not listed")
    nobody.close()


if __name__ == "__main__":
    main()
