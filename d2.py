from h import *
# no artificial sleeping: deadlines at random moments
import random
async def quick(row):
    return {"a":1}
async def one(i):
    rows=[{"n":i} for i in range(20000)]
    d=random.uniform(0.05,0.5)
    try:
        await asyncio.wait_for(hr.arun(hr.Pipeline(hr.Filter("n >= 0"), hr.Map(quick, concurrency=3)), rows, store=st(), deadline=d), 6)
    except (TimeoutError,asyncio.TimeoutError): return d
    except hr.HeadraceError as e: print(repr(e))
async def main():
    hung=0
    for i in range(40):
        if (d:=await one(i)): hung+=1; print("HUNG deadline",d,flush=True)
        if hung>3: break
    print("hung",hung,"of",i+1)
asyncio.run(main())
