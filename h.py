import headrace as hr, sys, os, tempfile, time, asyncio, threading, faulthandler
faulthandler.dump_traceback_later(int(os.environ.get("T","25")), exit=True)
def st(): return os.path.join(tempfile.mkdtemp(dir="/tmp/w/r1"), "s.db")
def show(run, n=6):
    print("ok", run.ok, "len", len(run), "failed", getattr(run,'failed',None))
    for o in list(run)[:n]: print("  ", repr(o)[:400])
def tryit(name, f):
    t=time.time()
    try:
        print("==", name); f()
    except BaseException as e:
        print("  RAISED", type(e).__name__, str(e)[:300], "| hint:", getattr(e,'hint',None), "| cause", repr(e.__cause__)[:200])
    print("  %.2fs"%(time.time()-t), flush=True)
